"""Prefill while the candidate thinks and answers, and the KV state of an interview."""

from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

import msgspec
import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    Priority,
    Transcription,
)
from prepserver.interview.prompts.build import build_prefill_prompt
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.turns.steps import Step
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.server.interview.conversation import LOUD, answer, open_room, request_snapshot
from tests.server.interview.prompts.test_build import LARGE_MODEL, build, prompt_text
from tests.support.clock import ManualClock
from tests.support.contexts import context_after
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, split_words
from tests.support.objects import advance_until, eventually
from tests.support.rooms import Rooms


def interviewer_model(clock: ManualClock, questions: int = 4) -> CuedLanguageModel:
    return CuedLanguageModel(
        clock, [split_words(f"What is number {n} like?") for n in range(questions)]
    )


class TwoCommittedWords(ScriptedSpeechModel):
    """Speech model whose captions have two committed words and a changing interim part."""

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        async for piece in audio:
            yield PartialTranscript(final="", committed="We think", interim=f"{len(piece)}")


def has_prefilled(model: CuedLanguageModel, text: str) -> bool:
    """Return True if a prefilled prompt contains `text`."""
    return any(text in prompt_text(prompt) for prompt in model.prefilled)


def prefilled_drafts(model: CuedLanguageModel) -> list[str]:
    """Return the draft at the end of each prefilled prompt, in order; an empty string stands for a
    prompt without a draft."""
    turns = [prompt.turns[-1] for prompt in model.prefilled]
    return [
        turn.content.partition("<answer>")[2].removesuffix("</answer>")
        if turn.role == "user"
        else ""
        for turn in turns
    ]


@asynchronous
async def test_a_draft_is_prefilled_while_it_is_typed(tmp_path: Path) -> None:
    """While a draft is being typed, it is prefilled in the interview's conversation but not
    stored."""
    clock = ManualClock()
    model = interviewer_model(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.UserTyping(draft="We moved to Kafka"))
        await eventually(lambda: has_prefilled(model, "We moved to Kafka"))
        assert model.prefilled[-1].conversation == client.room
        await client.send(answer("We moved to Kafka because of the auditors."))
        await client.next_message(MessageKind.QUESTION)
        messages = await rooms.registry.call(InterviewStub(client.room).messages())
    assert [m.text for m in messages if m.kind is MessageKind.ANSWER] == [
        "We moved to Kafka because of the auditors."
    ]
    assert model.prompts[-1].conversation == client.room


@asynchronous
async def test_committed_text_is_prefilled_while_the_candidate_speaks(tmp_path: Path) -> None:
    """The committed text of a caption is prefilled; the interim text is not."""
    clock = ManualClock()
    model = interviewer_model(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        for number in range(75):
            await client.send(codec.pack_frame(number, LOUD[:1_280]))
        await eventually(lambda: has_prefilled(model, "2 s"))
        assert not has_prefilled(model, "3 s")


@asynchronous
async def test_an_unchanged_draft_is_not_prefilled_again(tmp_path: Path) -> None:
    """Keystrokes and captions that change neither the draft nor the committed text start no
    prefill."""
    clock = ManualClock()
    model = interviewer_model(clock)
    transcriber = TwoCommittedWords(clock)
    async with Rooms(tmp_path, clock=clock, language=model, speech=transcriber) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: prefilled_drafts(model) == [""])
        for _ in range(3):
            await client.send(client_messages.UserTyping(draft="We moved to "))
            await rooms.registry.wait_for_handlers()
        await eventually(lambda: prefilled_drafts(model) == ["", "We moved to"])
        await client.send(client_messages.AudioStart(id="r1"))
        for number in range(75):
            await client.send(codec.pack_frame(number, LOUD[:1_280]))
        await eventually(lambda: sum(isinstance(m, wire.Caption) for m in client.messages) >= 10)
        await eventually(lambda: prefilled_drafts(model) == ["", "We moved to", "We think"])


@asynchronous
async def test_a_draft_is_prefilled_again_when_the_conversation_has_changed(
    tmp_path: Path,
) -> None:
    """An unchanged draft is prefilled again after the next question, and after an answer is
    edited."""
    clock = ManualClock()
    model = interviewer_model(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: prefilled_drafts(model) == [""])
        await client.send(client_messages.UserTyping(draft="Well"))
        await eventually(lambda: prefilled_drafts(model) == ["", "Well"])
        await client.send(answer("Well, it depends."))
        await client.wait_for_phase(wire.Phase.IDLE)
        await eventually(lambda: prefilled_drafts(model) == ["", "Well", ""])
        await client.send(client_messages.UserTyping(draft="Well"))
        await eventually(lambda: prefilled_drafts(model) == ["", "Well", "", "Well"])
        messages = await rooms.registry.call(InterviewStub(client.room).messages())
        id = next(m.id for m in messages if m.kind is MessageKind.ANSWER)
        await client.send(client_messages.MessageEdit(id="e1", message_id=id, text="Well, it did."))
        await client.send(client_messages.UserTyping(draft="Well"))
        await eventually(lambda: prefilled_drafts(model) == ["", "Well", "", "Well", "Well"])
    assert "Well, it did." in prompt_text(model.prefilled[-1])


@asynchronous
async def test_a_dropped_draft_is_prefilled_at_the_next_keystroke(tmp_path: Path) -> None:
    """A prefill that was dropped because an answer needed the model starts again at the next
    keystroke."""
    clock = ManualClock()
    model = interviewer_model(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms)
        await eventually(lambda: prefilled_drafts(model) == [""])
        admission = rooms.gateway._pool.sets[0].language.backends[0].admission
        async with admission.acquire_slot(Priority.ANSWER):
            await client.send(client_messages.UserTyping(draft="Well"))
            await clock.advance(0)
            await rooms.registry.wait_for_handlers()
        assert prefilled_drafts(model) == [""]
        await client.send(client_messages.UserTyping(draft="Well"))
        await eventually(lambda: prefilled_drafts(model) == ["", "Well"])


@asynchronous
async def test_a_question_is_prefilled_as_soon_as_it_was_asked(tmp_path: Path) -> None:
    """Each question is prefilled before its answer arrives."""
    clock = ManualClock()
    model = interviewer_model(clock)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms, questions=7)
        first = (await request_snapshot(client)).messages[0].text
        await eventually(lambda: has_prefilled(model, first))
        await client.send(answer("Not bad."))
        # The model's first reply is its opinion about the answer.
        await eventually(lambda: has_prefilled(model, "What is number 1 like?"))


@asynchronous
async def test_an_idle_interview_is_offloaded_and_a_deleted_one_discarded(
    tmp_path: Path,
) -> None:
    """The KV state of an idle interview is offloaded, and that of a deleted interview is
    discarded."""
    clock = ManualClock()
    model = interviewer_model(clock)
    async with Rooms(tmp_path, clock=clock, language=model, hint_after=3_600) as rooms:
        client = await open_room(rooms)
        await advance_until(clock, lambda: ("offload", client.room) in model.conversation_calls)
        assert client.closed is None
        await client.send(client_messages.UserTyping(draft="Back again"))
        await eventually(lambda: has_prefilled(model, "Back again"))
        await rooms.registry.call(UserInterviewsStub("user-1").delete(client.room))
        await eventually(lambda: ("discard", client.room) in model.conversation_calls)


@pytest.mark.parametrize("step", [Step.QUESTION, Step.CLOSING, Step.SUMMARY])
def test_the_prefilled_prompt_is_a_prefix_of_the_next_prompt(step: Step) -> None:
    """After an answer, the prompt for the next step begins with the prompt that was prefilled for
    any beginning of the answer, up to the mark that ends the answer."""
    answered = context_after(["A payment service for shops."])
    opened = msgspec.structs.replace(answered, messages=answered.messages[:1])
    prompt = build(step, LARGE_MODEL, answered)
    for draft in ("", "A payment", "A payment service for"):
        prefilled = prompt_text(build_prefill_prompt(LARGE_MODEL, opened, draft, "i"))
        assert prompt_text(prompt).startswith(prefilled.removesuffix("</answer>"))


def test_a_prefilled_draft_is_a_prefix_of_the_prefilled_answer() -> None:
    """The conversation with an answer begins with the prompt that was prefilled for any beginning
    of the answer, up to the mark that ends the answer."""
    answered = context_after(["A payment service for shops."])
    opened = msgspec.structs.replace(answered, messages=answered.messages[:1])
    whole = prompt_text(build_prefill_prompt(LARGE_MODEL, answered, "", "i"))
    for draft in ("", "A payment", "A payment service for"):
        prefilled = prompt_text(build_prefill_prompt(LARGE_MODEL, opened, draft, "i"))
        assert whole.startswith(prefilled.removesuffix("</answer>"))
