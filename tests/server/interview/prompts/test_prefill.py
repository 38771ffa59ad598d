"""What the model reads while the candidate is still at it, and what is kept for an interview."""

from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

import msgspec
import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import ModelInfo, PartialTranscript, Priority, Prompt, Transcription
from prepserver.interview.prompts.build import build_prefill_prompt
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.turns.steps import Step
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.server.interview.prompts.test_build import PROFILES, ask, context_after
from tests.server.interview.talk import LOUD, answer, open_room
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, words
from tests.support.objects import eventually, in_time
from tests.support.rooms import Rooms


def asking(clock: ManualClock, questions: int = 4) -> CuedLanguage:
    replies = [words(f"What is number {n} like?") for n in range(questions)]
    return CuedLanguage(clock, [words('{"skills": []}'), *replies])


def shown(prompt: Prompt) -> str:
    return prompt.text or "\n".join(turn.content for turn in prompt.turns)


class Hesitating(ScriptedSpeechModel):
    """Is certain of two words and guesses on."""

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        async for piece in audio:
            yield PartialTranscript(final="", committed="We think", interim=f"{len(piece)}")


def drafts(model: CuedLanguage) -> list[str]:
    """What was read ahead of answers, in order: of each the answer alone."""
    return [
        prompt.turns[-1].content if prompt.turns[-1].role == "user" else ""
        for prompt in model.prefilled
    ]


@asynchronous
async def test_a_draft_is_read_while_it_is_typed(tmp_path: Path) -> None:
    """As the beginning of the answer, for this interview; it is not stored."""
    clock = ManualClock()
    model = asking(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await client.send(wire.UserTyping(draft="We moved to Kafka"))
        await eventually(lambda: any("We moved to Kafka" in shown(p) for p in model.prefilled))
        assert model.prefilled[-1].conversation == client.room
        await client.send(answer("We moved to Kafka because of the auditors."))
        await client.said(MessageKind.QUESTION)
        messages = await rooms.registry.call(InterviewStub(client.room).messages())
    assert [m.text for m in messages if m.kind is MessageKind.ANSWER] == [
        "We moved to Kafka because of the auditors."
    ]
    assert model.prompts[-1].conversation == client.room


@asynchronous
async def test_what_is_heard_for_certain_is_read_while_the_rest_is_spoken(tmp_path: Path) -> None:
    """The tentative end of a caption is not."""
    clock = ManualClock()
    model = asking(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await client.send(wire.AudioStart(id="r1"))
        for number in range(75):
            await client.send(codec.pack_frame(number, LOUD[:1_280]))
        await eventually(lambda: any("2 s" in shown(p) for p in model.prefilled))
        assert not any("3 s" in shown(p) for p in model.prefilled)


@asynchronous
async def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    """Captions and keystrokes that add nothing certain cost the model nothing, nor the database."""
    clock = ManualClock()
    model = asking(clock)
    ears = Hesitating(clock)
    async with Rooms(tmp_path, clock=clock, language=model, speech=ears) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: drafts(model) == [""])
        for _ in range(3):
            await client.send(wire.UserTyping(draft="We moved to "))
            await rooms.registry.wait_for_handlers()
        await eventually(lambda: drafts(model) == ["", "We moved to"])
        await client.send(wire.AudioStart(id="r1"))
        for number in range(75):
            await client.send(codec.pack_frame(number, LOUD[:1_280]))
        await eventually(lambda: sum(isinstance(m, wire.Caption) for m in client.messages) >= 10)
        await eventually(lambda: drafts(model) == ["", "We moved to", "We think"])


@asynchronous
async def test_the_same_draft_is_read_again_when_what_was_said_before_it_has_changed(
    tmp_path: Path,
) -> None:
    """After the next question, and after an answer was corrected."""
    clock = ManualClock()
    model = asking(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: drafts(model) == [""])
        await client.send(wire.UserTyping(draft="Well"))
        await eventually(lambda: drafts(model) == ["", "Well"])
        await client.send(answer("Well, it depends."))
        await client.state(wire.Phase.IDLE)
        await eventually(lambda: drafts(model) == ["", "Well", ""])
        await client.send(wire.UserTyping(draft="Well"))
        await eventually(lambda: drafts(model) == ["", "Well", "", "Well"])
        said = await rooms.registry.call(InterviewStub(client.room).messages())
        id = next(m.id for m in said if m.kind is MessageKind.ANSWER)
        await client.send(wire.MessageEdit(id="e1", message_id=id, text="Well, it did."))
        await client.send(wire.UserTyping(draft="Well"))
        await eventually(lambda: drafts(model) == ["", "Well", "", "Well", "Well"])
    assert "Well, it did." in shown(model.prefilled[-1])


@asynchronous
async def test_a_draft_that_there_was_no_time_for_is_read_later(tmp_path: Path) -> None:
    """Whoever needs the model now comes first; the next keystroke tries again."""
    clock = ManualClock()
    model = asking(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: drafts(model) == [""])
        door = rooms.gateway._language.links[0].admission
        async with door.admitted(Priority.ANSWER):
            await client.send(wire.UserTyping(draft="Well"))
            await clock.advance(0)
            await rooms.registry.wait_for_handlers()
        assert drafts(model) == [""]
        await client.send(wire.UserTyping(draft="Well"))
        await eventually(lambda: drafts(model) == ["", "Well"])


@asynchronous
async def test_a_question_is_read_as_soon_as_it_was_asked(tmp_path: Path) -> None:
    """Then only the answer is left to read."""
    clock = ManualClock()
    model = asking(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: any("What is number 0 like?" in shown(p) for p in model.prefilled))
        await client.send(answer("Not bad."))
        await eventually(lambda: any("What is number 1 like?" in shown(p) for p in model.prefilled))


@asynchronous
async def test_an_interview_that_rests_is_parked_and_one_that_is_deleted_forgotten(
    tmp_path: Path,
) -> None:
    """What the model keeps for it goes to disk after ten quiet seconds, and away with it."""
    clock = ManualClock()
    model = asking(clock)
    async with Rooms(tmp_path, clock=clock, language=model, hint_after=3_600) as rooms:
        client = await open_room(rooms)
        await in_time(clock, lambda: ("offload", client.room) in model.kept)
        assert client.closed is None
        await client.send(wire.UserTyping(draft="Back again"))
        await eventually(lambda: any("Back again" in shown(p) for p in model.prefilled))
        await rooms.registry.call(UserInterviewsStub("user-1").delete(client.room))
        await eventually(lambda: ("discard", client.room) in model.kept)


@PROFILES
@pytest.mark.parametrize("step", [Step.QUESTION, Step.CLOSING, Step.SUMMARY])
def test_what_was_read_ahead_is_the_beginning_of_the_next_prompt(
    info: ModelInfo, step: Step
) -> None:
    """Whatever is asked next, and however far the draft had come."""
    answered = context_after(["A payment service for shops."])
    opened = msgspec.structs.replace(answered, messages=answered.messages[:1])
    prompt = ask(step, info, answered)
    for draft in ("", "A payment", "A payment service for"):
        assert shown(prompt).startswith(shown(build_prefill_prompt(info, opened, draft, "i")))


@PROFILES
def test_a_hint_begins_with_what_was_read_of_its_question(info: ModelInfo) -> None:
    """The question is read once, for the hint and for what comes after the answer."""
    answered = context_after(["A payment service for shops."])
    opened = msgspec.structs.replace(answered, messages=answered.messages[:1])
    hint = ask(Step.HINT, info, opened)
    assert shown(hint).startswith(shown(build_prefill_prompt(info, opened, "", "i")))
