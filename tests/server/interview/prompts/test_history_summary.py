"""An interview that outgrows the model's context."""

from pathlib import Path

import msgspec
import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import ModelInfo, Prompt
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.prompts.build import (
    build_history_summary_prompt,
    build_prompt,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary
from prepserver.interview.prompts.history_summary import summarise_history
from prepserver.interview.prompts.token_budget import BLOCK
from prepserver.interview.questions import bank
from prepserver.interview.turns.steps import Step
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind
from tests.server.interview.prompts.test_build import context_after
from tests.server.interview.talk import answer, open_room
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, Reply, words
from tests.support.rooms import Rooms

BANK = bank.load_bank()

LONG = [
    f"In project {n} we built the Zeppelin{n} service, and the Orchid{n} team ran it for a year. "
    "Then the auditors asked for every change of the last decade, and we had to look at it again."
    for n in range(9)
]
TIGHT = {
    "compact": ModelInfo(name="small", parameters=135_000_000, context=1_000),
    "full": ModelInfo(name="large", parameters=8_000_000_000, context=1_000),
}


def text_of(prompt: Prompt) -> str:
    return prompt.text or "\n".join(turn.content for turn in prompt.turns)


@pytest.mark.parametrize("profile", list(TIGHT))
def test_what_a_prompt_has_no_room_for_is_shown_condensed(profile: str) -> None:
    """The oldest exchanges go, a few at a time, and their summary stands in their place; as long
    as everything fits there is none."""
    info, context = TIGHT[profile], context_after(LONG)
    upto = count_outgrown_messages(info, context)
    assert upto >= BLOCK
    assert count_outgrown_messages(msgspec.structs.replace(info, context=32_000), context) == 0
    condensed = msgspec.structs.replace(
        context, history_summary=HistorySummary(covered=upto, text="They spoke about airships.")
    )
    prompt, _ = build_prompt(Step.CLOSING, info, BANK, condensed, 1)
    assert "They spoke about airships." in text_of(prompt)
    assert context.messages[upto - 1].text not in text_of(prompt)
    assert context.messages[-1].text in text_of(prompt)


@pytest.mark.parametrize("profile", list(TIGHT))
def test_a_summary_is_asked_of_what_none_covers_yet(profile: str) -> None:
    """What was condensed before is not read again."""
    info = TIGHT[profile]
    context = msgspec.structs.replace(
        context_after(LONG), history_summary=HistorySummary(covered=4, text="Earlier.")
    )
    prompt = build_history_summary_prompt(info, BANK, context, 8, 1)
    assert context.messages[3].text not in text_of(prompt)
    assert context.messages[4].text in text_of(prompt)
    assert context.messages[8].text not in text_of(prompt)


def gateway_of(tmp_path: Path, reply: Reply) -> tuple[Gateway, CuedLanguage]:
    clock = ManualClock()
    model = CuedLanguage(clock, [reply])
    limiter = RateLimiter(tmp_path / "limits.sqlite", clock, limit=0)
    return Gateway(model, ScriptedSpeechModel(clock), limiter, clock), model


CALL = Call(purpose="question", user="u", interview="i", request="i/1")


@asynchronous
async def test_a_summary_grows_with_the_interview(tmp_path: Path) -> None:
    """What is condensed later is added to what was condensed before."""
    gateway, model = gateway_of(tmp_path, words("They built airships."))
    gateway.start()
    info, context = TIGHT["full"], context_after(LONG)
    first = await summarise_history(gateway, CALL, info, BANK, context, 1)
    assert first is not None
    assert first == HistorySummary(
        covered=count_outgrown_messages(info, context), text="They built airships."
    )
    known = msgspec.structs.replace(context, history_summary=first)
    assert await summarise_history(gateway, CALL, info, BANK, known, 1) is None
    earlier = msgspec.structs.replace(
        context, history_summary=HistorySummary(covered=2, text="Before.")
    )
    second = await summarise_history(gateway, CALL, info, BANK, earlier, 1)
    assert second is not None
    assert second.text == "Before. They built airships."
    assert [prompt.purpose for prompt in model.prompts] == ["history_summary"] * 2
    await gateway.close()


@asynchronous
async def test_a_summary_that_fails_costs_no_question(tmp_path: Path) -> None:
    """The interview goes on without it."""
    broken = InferenceError("No.", code=ErrorCode.INFERENCE, retryable=False)
    gateway, _ = gateway_of(tmp_path, [broken])
    gateway.start()
    assert (
        await summarise_history(gateway, CALL, TIGHT["full"], BANK, context_after(LONG), 1) is None
    )
    await gateway.close()


class Narrow(CuedLanguage):
    """A model with very little room."""

    async def start(self) -> ModelInfo:
        return msgspec.structs.replace(await super().start(), context=700)


@asynchronous
async def test_a_long_interview_keeps_its_beginning_in_short(tmp_path: Path) -> None:
    """Through the whole room: the summary is stored and later prompts begin with it, also after a
    restart."""
    clock = ManualClock()

    class Interviewer(Narrow):
        def next_reply(self, prompt: Prompt) -> Reply:
            match prompt.purpose:
                case "skills":
                    return words('{"skills": []}')
                case "history_summary":
                    return words("They spoke of airships.")
                case _:
                    return words(f"What is point {len(self.prompts)} about?")

    model = Interviewer(clock, [])
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms, questions=20)
        for text in LONG:
            await client.send(answer(text))
            await client.said(MessageKind.QUESTION)
        room = client.room
    assert "history_summary" in [prompt.purpose for prompt in model.prompts]
    again = Interviewer(clock, [])
    async with Rooms(tmp_path, clock=clock, language=again) as rooms:
        client = await rooms.join(room)
        await client.next(wire.Snapshot)
        await client.send(answer("And one more."))
        await client.said(MessageKind.QUESTION)
    asked = [prompt for prompt in again.prompts if prompt.purpose == "question"]
    assert "They spoke of airships." in text_of(asked[-1])
