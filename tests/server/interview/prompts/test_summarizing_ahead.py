"""The beginning of a long interview is condensed while the candidate thinks."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from prepserver.engines.types import ModelInfo, Priority, Prompt, TextDelta, Usage
from prepserver.interview.prompts.build import (
    build_prefill_prompt,
    build_prompt,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary
from prepserver.interview.questions import bank
from prepserver.interview.stubs import InterviewStub
from prepserver.interview.turns.steps import Step
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.server.interview.prompts.test_build import PROFILES, context_after
from tests.server.interview.prompts.test_history_summary import LONG, TIGHT, text_of
from tests.server.interview.talk import answer, open_room
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, Reply, words
from tests.support.objects import eventually
from tests.support.rooms import Client, Rooms

BANK = bank.load_bank()

SUMMARY = "They spoke of airships."


class Interviewer(CuedLanguage):
    """Has room for four long answers and what is asked between them, but not for a fifth. Waits
    with a summary until it is allowed."""

    def __init__(self, *, context: int = 700, allowed: bool = True) -> None:
        self.clock = ManualClock()
        super().__init__(self.clock, [], parallel=2)
        self.allowed = asyncio.Event()
        if allowed:
            self.allowed.set()
        self.given_up = 0
        """Summaries."""
        self._context = context

    def rooms(self, folder: Path) -> Rooms:
        return Rooms(folder, clock=self.clock, language=self)

    async def start(self) -> ModelInfo:
        return msgspec.structs.replace(await super().start(), context=self._context)

    def next_reply(self, prompt: Prompt) -> Reply:
        match prompt.purpose:
            case "skills":
                return words('{"skills": []}')
            case "history_summary":
                return words(SUMMARY)
            case _:
                return words(f"What is point {len(self.prompts)} about?")

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        async for event in super().generate(prompt):
            if prompt.purpose == "history_summary":
                try:
                    await self.allowed.wait()
                except asyncio.CancelledError:
                    self.given_up += 1
                    raise
            yield event

    def purposes(self) -> list[str]:
        """Of what was asked since the skills."""
        return [prompt.purpose for prompt in self.prompts[1:]]

    def read(self, text: str) -> bool:
        """Whether something was read ahead that has this text in it."""
        return any(text in text_of(prompt) for prompt in self.prefilled)


async def talk(rooms: Rooms, answers: int) -> Client:
    """An interview with so many long answers, whose next question has been asked."""
    client = await open_room(rooms, questions=20)
    for text in LONG[:answers]:
        await client.send(answer(text))
        await client.state(wire.Phase.IDLE)
    return client


@PROFILES
def test_a_prompt_is_outgrown_earlier_when_an_answer_is_still_to_come(info: ModelInfo) -> None:
    """By an answer of two minutes, or as much of one as a prompt shows."""
    context = context_after([text * 9 for text in LONG])
    due = []
    for count in range(1, len(context.messages), 2):
        asked = msgspec.structs.replace(context, messages=context.messages[:count])
        likely = msgspec.structs.replace(context.messages[1], text="speech " * 257)
        answered = msgspec.structs.replace(asked, messages=(*asked.messages, likely))
        due.append(
            (
                bool(count_outgrown_messages(info, asked, ahead=True)),
                bool(count_outgrown_messages(info, answered)),
            )
        )
    assert due[0] == (False, False)
    assert due[-1] == (True, True)
    assert all(ahead == later for ahead, later in due)


@pytest.mark.parametrize("profile", list(TIGHT))
def test_a_summary_stands_for_what_there_would_still_be_room_for(profile: str) -> None:
    """From the moment when it is there: what was read ahead with it is of use."""
    info, context = TIGHT[profile], context_after(LONG[:2])
    assert count_outgrown_messages(info, context) == 0
    condensed = msgspec.structs.replace(
        context, history_summary=HistorySummary(covered=2, text=SUMMARY)
    )
    assert count_outgrown_messages(info, condensed) == 2
    prompt, _ = build_prompt(Step.QUESTION, info, BANK, condensed, 1)
    for text in (text_of(prompt), text_of(build_prefill_prompt(info, condensed, "", "i"))):
        assert SUMMARY in text
        assert LONG[0] not in text
        assert LONG[1] in text


@asynchronous
async def test_what_the_next_prompt_has_no_room_for_is_condensed_before_the_answer(
    tmp_path: Path,
) -> None:
    """After the question, with less haste than anything else; then the new prompt is read ahead,
    and the turn has nothing left to condense."""
    model = Interviewer()
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 4)
        await eventually(lambda: model.read(SUMMARY))
        assert model.purposes() == ["question"] * 5 + ["history_summary"]
        assert model.prompts[-1].priority is Priority.PREFILL
        assert not model.prompts[-1].conversation
        await client.send(answer(LONG[4]))
        await client.said(MessageKind.QUESTION)
    assert model.purposes() == ["question"] * 5 + ["history_summary", "question"]
    assert SUMMARY in text_of(model.prompts[-1])
    assert LONG[0] not in text_of(model.prompts[-1])


@asynchronous
async def test_captions_and_keystrokes_begin_no_other_summary(tmp_path: Path) -> None:
    """Nor do they end the one that is being written; after it the latest draft is read."""
    model = Interviewer(allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 4)
        for draft in ("So", "So we", "So we went"):
            await client.send(wire.UserTyping(draft=draft))
            await eventually(lambda draft=draft: model.read(draft))  # type: ignore[misc]
        assert not model.read(SUMMARY)
        model.allowed.set()
        await eventually(lambda: model.read(SUMMARY))
        last = text_of(model.prefilled[-1])
        assert SUMMARY in last
        assert "So we went" in last
        await client.send(wire.UserTyping(draft="So we went on"))
        await eventually(lambda: model.read("So we went on"))
    assert model.purposes().count("history_summary") == 1
    assert model.given_up == 0


@asynchronous
async def test_an_answer_does_not_wait_for_a_summary_that_it_does_not_need(tmp_path: Path) -> None:
    """It is given up, and begun again behind the next question."""
    model = Interviewer(allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        await client.send(answer("Yes."))
        await client.said(MessageKind.QUESTION)
        await eventually(lambda: model.given_up == 1)
        assert LONG[0] in text_of(model.prompts[7])
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        model.allowed.set()
        await eventually(lambda: model.read(SUMMARY))
    assert model.purposes() == ["question"] * 5 + ["history_summary", "question", "history_summary"]


@asynchronous
async def test_an_answer_that_outgrows_the_context_is_condensed_for_in_its_turn(
    tmp_path: Path,
) -> None:
    """One summary is written, with the haste of an answer; the other is given up."""
    model = Interviewer(allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        await client.send(answer(LONG[4] * 2))
        await eventually(lambda: model.purposes()[-2:] == ["history_summary"] * 2)
        await eventually(lambda: model.given_up == 1)
        assert model.prompts[-1].priority is Priority.ANSWER
        model.allowed.set()
        await client.said(MessageKind.QUESTION)
    assert model.purposes() == ["question"] * 5 + ["history_summary"] * 2 + ["question"]
    assert text_of(model.prompts[-1]).count(SUMMARY) == 1


@asynchronous
async def test_a_summary_of_what_was_corrected_meanwhile_is_not_kept(tmp_path: Path) -> None:
    """The next draft begins one of what the candidate says now."""
    model = Interviewer(allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        said = await rooms.registry.call(InterviewStub(client.room).messages())
        first = next(m for m in said if m.kind is MessageKind.ANSWER)
        corrected = first.text.replace("Zeppelin", "Blimp")
        await client.send(wire.MessageEdit(id="e1", message_id=first.id, text=corrected))
        await eventually(lambda: model.given_up == 1)
        model.allowed.set()
        await client.send(wire.UserTyping(draft="Well"))
        await eventually(lambda: model.read(SUMMARY))
    assert "Blimp" in text_of(model.prompts[-1])
    assert model.purposes()[-2:] == ["history_summary"] * 2


@asynchronous
async def test_a_summary_that_was_cut_short_is_written_in_the_next_life(
    tmp_path: Path,
) -> None:
    """With the first draft; what is stored is the whole summary or none. What was stored is not
    written again."""
    model = Interviewer(allowed=False)
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 4)
        await eventually(lambda: model.purposes()[-1] == "history_summary")
        room = client.room
    lives = []
    for _ in range(2):
        again = Interviewer()
        lives.append(again)
        async with again.rooms(tmp_path) as rooms:
            client = await rooms.join(room)
            await client.send(wire.UserTyping(draft="Well"))
            await eventually(lambda again=again: again.read(SUMMARY))  # type: ignore[misc]
    assert [p.purpose for p in lives[0].prompts] == ["history_summary"]
    assert lives[0].prompts[0] == model.prompts[-1]
    assert lives[1].prompts == []


@asynchronous
async def test_a_summary_written_ahead_costs_no_request(tmp_path: Path) -> None:
    """The skills do and five questions, the summary does not."""
    model = Interviewer()
    async with model.rooms(tmp_path) as rooms:
        await talk(rooms, 4)
        before = await rooms.limiter.quota("user-1")
        await eventually(lambda: model.read(SUMMARY))
        assert await rooms.limiter.quota("user-1") == before
        assert before.limit - before.remaining == 6


@asynchronous
async def test_nothing_is_condensed_where_there_is_room(tmp_path: Path) -> None:
    """A large context has it for a long interview."""
    model = Interviewer(context=8_192)
    async with model.rooms(tmp_path) as rooms:
        client = await talk(rooms, 6)
        await client.send(wire.UserTyping(draft="Well"))
        await eventually(lambda: model.read("Well"))
    assert model.purposes() == ["question"] * 7
