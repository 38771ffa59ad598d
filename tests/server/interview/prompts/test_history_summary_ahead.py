"""The history summary that is written while the candidate thinks."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from prepserver.engines.types import ModelInfo, Priority, Prompt, TextDelta, Usage
from prepserver.interview.prompts.build import (
    LIKELY_ANSWER,
    build_prefill_prompt,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary
from prepserver.interview.stubs import InterviewStub
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.server.interview.conversation import answer, open_room
from tests.server.interview.prompts.test_build import LARGE_MODEL, prompt_text
from tests.server.interview.prompts.test_history_summary import LONG_ANSWERS, SMALL_CONTEXT
from tests.support.clock import ManualClock
from tests.support.contexts import context_after
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, split_words
from tests.support.objects import eventually
from tests.support.rooms import Client, Rooms

SUMMARY = "They spoke of airships."


class Interviewer(CuedLanguageModel):
    """Language model whose default context fits four long answers with their questions, but not
    five.

    A summary waits until `summary_allowed` is set.
    """

    def __init__(self, *, context: int = 4_096, summary_allowed: bool = True) -> None:
        self.clock = ManualClock()
        super().__init__(self.clock, [], parallel=2)
        self.summary_allowed = asyncio.Event()
        if summary_allowed:
            self.summary_allowed.set()
        self.cancelled_summaries = 0
        self._context = context

    def rooms(self, folder: Path) -> Rooms:
        return Rooms(folder, clock=self.clock, language=self)

    async def start(self) -> ModelInfo:
        return msgspec.structs.replace(await super().start(), context=self._context)

    def next_reply(self, prompt: Prompt) -> Reply:
        match prompt.purpose:
            case "history_summary":
                return split_words(SUMMARY)
            case _:
                return split_words(f"What is point {len(self.prompts)} about?")

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        async for event in super().generate(prompt):
            if prompt.purpose == "history_summary":
                try:
                    await self.summary_allowed.wait()
                except asyncio.CancelledError:
                    self.cancelled_summaries += 1
                    raise
            yield event

    def purposes(self) -> list[str]:
        """Return the purpose of each call, apart from the decisions between the questions; a
        translated question counts as a question."""
        return [
            prompt.purpose.replace("translation", "question")
            for prompt in self.prompts
            if prompt.purpose != "decision"
        ]

    def question_prompts(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.purpose == "question"]

    def has_prefilled(self, text: str) -> bool:
        """Return True if a prefilled prompt contains `text`."""
        return any(text in prompt_text(prompt) for prompt in self.prefilled)


async def give_long_answers(rooms: Rooms, count: int) -> Client:
    """Create an interview, give long answers to its first `count` questions, and return the
    client.

    The language is not that of the bank, so the model writes all questions, and they are short."""
    client = await open_room(rooms, questions=20, language="de")
    for text in LONG_ANSWERS[:count]:
        await client.send(answer(text))
        await client.wait_for_phase(wire.Phase.IDLE)
    return client


def test_counting_ahead_reserves_room_for_a_likely_answer() -> None:
    """Counting ahead finds outgrown messages exactly if a prompt would have no room for some
    messages after an answer of two minutes."""
    context = context_after([text * 2 for text in LONG_ANSWERS])
    due = []
    for count in range(1, len(context.messages), 2):
        asked = msgspec.structs.replace(context, messages=context.messages[:count])
        likely = msgspec.structs.replace(context.messages[1], text=LIKELY_ANSWER)
        answered = msgspec.structs.replace(asked, messages=(*asked.messages, likely))
        due.append(
            (
                bool(count_outgrown_messages(LARGE_MODEL, asked, ahead=True)),
                bool(count_outgrown_messages(LARGE_MODEL, answered)),
            )
        )
    assert due[0] == (False, False)
    assert due[-1] == (True, True)
    assert all(ahead == later for ahead, later in due)


def test_a_summary_replaces_messages_that_would_still_fit() -> None:
    """A history summary replaces the messages that it covers even if they would still fit the
    context, so that the prefilled prompt stays valid."""
    info, context = SMALL_CONTEXT, context_after(LONG_ANSWERS[:2])
    assert count_outgrown_messages(info, context) == 0
    summarised = msgspec.structs.replace(
        context, history_summary=HistorySummary(covered=2, text=SUMMARY)
    )
    assert count_outgrown_messages(info, summarised) == 2
    text = prompt_text(build_prefill_prompt(info, summarised, "", "i"))
    assert SUMMARY in text
    assert LONG_ANSWERS[0] not in text
    assert LONG_ANSWERS[1] in text


@asynchronous
async def test_the_history_is_summarised_before_the_answer_arrives(tmp_path: Path) -> None:
    """If the context has no room for an answer of likely length, the history is summarised at
    prefill priority after the question, and the next turn writes no summary."""
    model = Interviewer()
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 4)
        await eventually(lambda: model.has_prefilled(SUMMARY))
        assert model.purposes() == ["question"] * 5 + ["history_summary"]
        assert model.prompts[-1].priority is Priority.PREFILL
        assert not model.prompts[-1].conversation
        await client.send(answer(LONG_ANSWERS[4]))
        await client.next_message(MessageKind.QUESTION)
    assert model.purposes() == ["question"] * 5 + ["history_summary", "question"]
    assert SUMMARY in prompt_text(model.prompts[-1])
    assert LONG_ANSWERS[0] not in prompt_text(model.prompts[-1])


@asynchronous
async def test_keystrokes_neither_start_nor_cancel_a_summary(tmp_path: Path) -> None:
    """Keystrokes neither cancel nor restart a summary in progress; after the summary, the latest
    draft is prefilled again."""
    model = Interviewer(summary_allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 4)
        for draft in ("So", "So we", "So we went"):
            await client.send(client_messages.UserTyping(draft=draft))
            await eventually(lambda draft=draft: model.has_prefilled(draft))  # type: ignore[misc]
        assert not model.has_prefilled(SUMMARY)
        model.summary_allowed.set()
        await eventually(lambda: model.has_prefilled(SUMMARY))
        last = prompt_text(model.prefilled[-1])
        assert SUMMARY in last
        assert "So we went" in last
        await client.send(client_messages.UserTyping(draft="So we went on"))
        await eventually(lambda: model.has_prefilled("So we went on"))
    assert model.purposes().count("history_summary") == 1
    assert model.cancelled_summaries == 0


@asynchronous
async def test_an_answer_does_not_wait_for_a_summary_that_it_does_not_need(tmp_path: Path) -> None:
    """An answer that fits the context without a summary cancels the summary in progress, which
    starts again after the next question."""
    model = Interviewer(summary_allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        await client.send(answer("Yes."))
        await client.next_message(MessageKind.QUESTION)
        await eventually(lambda: model.cancelled_summaries == 1)
        assert LONG_ANSWERS[0] in prompt_text(model.question_prompts()[-1])
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        model.summary_allowed.set()
        await eventually(lambda: model.has_prefilled(SUMMARY))
    assert model.purposes() == ["question"] * 5 + ["history_summary", "question", "history_summary"]


@asynchronous
async def test_an_answer_that_outgrows_the_context_is_summarised_for_in_its_turn(
    tmp_path: Path,
) -> None:
    """If an answer outgrows the context, its turn cancels the summary in progress and writes a
    summary at answer priority."""
    model = Interviewer(summary_allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        await client.send(answer(LONG_ANSWERS[4] * 2))
        await eventually(lambda: model.purposes()[-2:] == ["history_summary"] * 2)
        await eventually(lambda: model.cancelled_summaries == 1)
        assert model.prompts[-1].priority is Priority.ANSWER
        model.summary_allowed.set()
        await client.next_message(MessageKind.QUESTION)
    assert model.purposes() == ["question"] * 5 + ["history_summary"] * 2 + ["question"]
    assert prompt_text(model.prompts[-1]).count(SUMMARY) == 1


@asynchronous
async def test_editing_an_answer_discards_the_summary_in_progress(tmp_path: Path) -> None:
    """Editing an answer discards the summary in progress, and the next draft starts a new summary,
    which covers the edited text."""
    model = Interviewer(summary_allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        messages = await rooms.registry.call(InterviewStub(client.room).messages())
        first = next(m for m in messages if m.kind is MessageKind.ANSWER)
        corrected = first.text.replace("Zeppelin", "Blimp")
        await client.send(client_messages.MessageEdit(id="e1", message_id=first.id, text=corrected))
        await eventually(lambda: model.cancelled_summaries == 1)
        model.summary_allowed.set()
        await client.send(client_messages.UserTyping(draft="Well"))
        await eventually(lambda: model.has_prefilled(SUMMARY))
    assert "Blimp" in prompt_text(model.prompts[-1])
    assert model.purposes()[-2:] == ["history_summary"] * 2


@asynchronous
async def test_an_interrupted_summary_is_written_after_a_restart(tmp_path: Path) -> None:
    """After a restart, the first draft starts an interrupted summary again; a completed summary is
    not written again."""
    model = Interviewer(summary_allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        room = client.room
    restarts = []
    for _ in range(2):
        again = Interviewer()
        restarts.append(again)
        async with again.rooms(tmp_path) as rooms:
            client = await rooms.join(room)
            await client.send(client_messages.UserTyping(draft="Well"))
            await eventually(lambda again=again: again.has_prefilled(SUMMARY))  # type: ignore[misc]
    assert [p.purpose for p in restarts[0].prompts] == ["history_summary"]
    assert restarts[0].prompts[0] == model.prompts[-1]
    assert restarts[1].prompts == []


@asynchronous
async def test_a_summary_written_ahead_is_not_charged(tmp_path: Path) -> None:
    """A summary that is written ahead of the answer is not charged."""
    model = Interviewer()
    async with model.rooms(tmp_path) as rooms:
        await give_long_answers(rooms, 4)
        before = await rooms.limiter.quota("user-1")
        await eventually(lambda: model.has_prefilled(SUMMARY))
        assert await rooms.limiter.quota("user-1") == before
        assert before.limit - before.remaining == 5, "five questions; decisions are part of them"


@asynchronous
async def test_no_summary_is_written_while_everything_fits(tmp_path: Path) -> None:
    """An interview with six long answers needs no summary in a context of 8192 tokens."""
    model = Interviewer(context=8_192)
    async with model.rooms(tmp_path) as rooms:
        client = await give_long_answers(rooms, 6)
        await client.send(client_messages.UserTyping(draft="Well"))
        await eventually(lambda: model.has_prefilled("Well"))
    assert model.purposes() == ["question"] * 7
