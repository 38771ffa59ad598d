"""The history summary of an interview that outgrows the model's context."""

from pathlib import Path

import msgspec

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import ModelInfo, Prompt
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.prompts.build import (
    BLOCK,
    build_history_summary_prompt,
    build_prefill_prompt,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary
from prepserver.interview.prompts.history_summary import summarise_history
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind
from tests.server.interview.conversation import answer, open_room
from tests.server.interview.prompts.test_build import prompt_text
from tests.support.clock import ManualClock
from tests.support.contexts import context_after
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, one_set, split_words
from tests.support.rooms import Rooms

LONG_ANSWERS = [
    f"In project {n} we built the Zeppelin{n} service, and the Orchid{n} team ran it for a year. "
    "Then the auditors asked for every change of the last decade, and we had to look at it again"
    f"{', and again' * 60}."
    for n in range(9)
]
SMALL_CONTEXT = ModelInfo(name="large", parameters=8_000_000_000, context=4_096)


def test_the_history_summary_replaces_the_oldest_exchanges() -> None:
    """In a prompt, the history summary replaces the messages that it covers."""
    info, context = SMALL_CONTEXT, context_after(LONG_ANSWERS)
    outgrown = count_outgrown_messages(info, context)
    assert outgrown >= BLOCK
    assert count_outgrown_messages(msgspec.structs.replace(info, context=32_000), context) == 0
    summarised = msgspec.structs.replace(
        context, history_summary=HistorySummary(covered=outgrown, text="They spoke about airships.")
    )
    prompt = build_prefill_prompt(info, summarised, "", "i")
    assert "They spoke about airships." in prompt_text(prompt)
    assert context.messages[outgrown - 1].text not in prompt_text(prompt)
    assert context.messages[-1].text in prompt_text(prompt)


def test_a_new_summary_is_about_messages_that_no_summary_covers() -> None:
    """The prompt for a new summary contains no message that the previous summary covers."""
    context = msgspec.structs.replace(
        context_after(LONG_ANSWERS), history_summary=HistorySummary(covered=4, text="Earlier.")
    )
    prompt = build_history_summary_prompt(SMALL_CONTEXT, context, 8, 1)
    assert context.messages[3].text not in prompt_text(prompt)
    assert context.messages[4].text in prompt_text(prompt)
    assert context.messages[8].text not in prompt_text(prompt)


def create_gateway(tmp_path: Path, reply: Reply) -> tuple[Gateway, CuedLanguageModel]:
    clock = ManualClock()
    model = CuedLanguageModel(clock, [reply])
    limiter = RateLimiter(tmp_path / "limits.sqlite", clock, limit=0)
    return Gateway(one_set(model, ScriptedSpeechModel(clock)), limiter, clock), model


CALL = Call(purpose="question", user="u", interview="i", request="i/1")


@asynchronous
async def test_a_summary_grows_with_the_interview(tmp_path: Path) -> None:
    """A new summary is appended to the previous one."""
    gateway, model = create_gateway(tmp_path, split_words("They built airships."))
    gateway.start()
    info, context = SMALL_CONTEXT, context_after(LONG_ANSWERS)
    first = await summarise_history(gateway, CALL, info, context, 1)
    assert first is not None
    assert first == HistorySummary(
        covered=count_outgrown_messages(info, context), text="They built airships."
    )
    summarised = msgspec.structs.replace(context, history_summary=first)
    assert await summarise_history(gateway, CALL, info, summarised, 1) is None
    earlier = msgspec.structs.replace(
        context, history_summary=HistorySummary(covered=2, text="Before.")
    )
    second = await summarise_history(gateway, CALL, info, earlier, 1)
    assert second is not None
    assert second.text == "Before. They built airships."
    assert [prompt.purpose for prompt in model.prompts] == ["history_summary"] * 2
    await gateway.close()


@asynchronous
async def test_a_failed_summary_does_not_fail_the_turn(tmp_path: Path) -> None:
    """If the model fails, `summarise_history` returns None instead of raising an error."""
    broken = InferenceError("No.", code=ErrorCode.INFERENCE, retryable=False)
    gateway, _ = create_gateway(tmp_path, [broken])
    gateway.start()
    info, context = SMALL_CONTEXT, context_after(LONG_ANSWERS)
    assert await summarise_history(gateway, CALL, info, context, 1) is None
    await gateway.close()


class SmallContextLanguage(CuedLanguageModel):
    """Language model with a context of 2,048 tokens."""

    async def start(self) -> ModelInfo:
        return msgspec.structs.replace(await super().start(), context=2_048)


@asynchronous
async def test_the_history_summary_of_a_long_interview_is_stored(tmp_path: Path) -> None:
    """After a restart, the question prompts of a long interview still contain the history
    summary."""
    clock = ManualClock()

    class Interviewer(SmallContextLanguage):
        def next_reply(self, prompt: Prompt) -> Reply:
            match prompt.purpose:
                case "history_summary":
                    return split_words("They spoke of airships.")
                case _:
                    return split_words(f"What is point {len(self.prompts)} about?")

    model = Interviewer(clock, [])
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms, questions=20)
        for text in LONG_ANSWERS:
            await client.send(answer(text))
            await client.next_message(MessageKind.QUESTION)
        room = client.room
    assert "history_summary" in [prompt.purpose for prompt in model.prompts]
    restarted = Interviewer(clock, [])
    async with Rooms(tmp_path, clock=clock, language=restarted) as rooms:
        client = await rooms.join(room)
        await client.next(wire.Snapshot)
        await client.send(answer("And one more."))
        await client.next_message(MessageKind.QUESTION)
    asked = [prompt for prompt in restarted.prompts if prompt.purpose == "question"]
    assert "They spoke of airships." in prompt_text(asked[-1])
