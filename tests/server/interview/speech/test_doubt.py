"""Doubtful recordings, which are not answers until the candidate has checked their words."""

from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

import pytest
from msgspec import structs

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    Segment,
    Transcription,
)
from prepserver.interview.speech.doubt import MIN_CONFIDENCE, MIN_CONFIDENCE_ABROAD, find_problem
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_ANSWER
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.conversation import (
    LOUD,
    answer,
    message_kinds,
    open_room,
    request_snapshot,
)
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Rooms


def segment(text: str, probability: float = 0.9, reason: str = "", start: float = 0.0) -> Segment:
    return Segment(
        start=start, end=start + 1, text=text, probability=probability, drop_reason=reason
    )


def transcription(
    *segments: Segment, confidence: float, english_only: bool = False
) -> Transcription:
    kept = tuple(each for each in segments if not each.drop_reason)
    return Transcription(
        text=" ".join(each.text for each in kept),
        segments=kept,
        dropped=tuple(each for each in segments if each.drop_reason),
        confidence=confidence,
        english_only=english_only,
    )


DOUBTFUL = transcription(segment("we are going to be"), confidence=0.3, english_only=True)
CERTAIN = transcription(segment("We moved it."), confidence=0.9)


class UncertainSpeechModel(ScriptedSpeechModel):
    """Speech model that returns the given transcriptions in order, and the last one repeatedly."""

    def __init__(self, *results: Transcription) -> None:
        super().__init__(ManualClock())
        self.results = list(results)
        self.recordings: list[bytes] = []

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        self.recordings.append(pcm)
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        yield await self.transcribe(b"".join([chunk async for chunk in audio]), expected)


@pytest.mark.parametrize(
    ("result", "code", "text"),
    [
        (CERTAIN, None, ""),
        (transcription(segment("Yes."), confidence=MIN_CONFIDENCE), None, ""),
        (transcription(segment("Yes."), confidence=0.5), ErrorCode.SPEECH_DOUBTFUL, "Yes."),
        (
            transcription(
                segment("maybe", 0.2, "unlikely", 1.0),
                segment("la la la la", 0.9, "repetition", 2.0),
                segment("First", 0.4, "", 0.0),
                confidence=0.3,
            ),
            ErrorCode.SPEECH_DOUBTFUL,
            "First maybe",
        ),
        (
            transcription(segment("(speaking Dutch)", 0.8, "unintelligible"), confidence=0.2),
            ErrorCode.SPEECH_DOUBTFUL,
            "",
        ),
        (
            transcription(segment("x" * 2 * MAX_ANSWER), confidence=0.1),
            ErrorCode.SPEECH_DOUBTFUL,
            "x" * MAX_ANSWER,
        ),
        (transcription(segment("", 1.0, "silence"), confidence=1.0), ErrorCode.NOTHING_HEARD, ""),
        (transcription(confidence=1.0), ErrorCode.NOTHING_HEARD, ""),
        (
            transcription(segment("I see", 0.9, "repetition"), confidence=1.0),
            ErrorCode.SPEECH_DOUBTFUL,
            "",
        ),
    ],
    ids=[
        "certain", "just enough", "doubtful", "partly dropped", "foreign", "long", "silence",
        "nothing", "loop",
    ],
)  # fmt: skip
def test_uncertain_speech_is_told_from_silence(
    result: Transcription, code: ErrorCode | None, text: str
) -> None:
    """Confident text is an answer; uncertain speech is doubtful and carries its possible words;
    without any speech nothing was heard."""
    problem = find_problem(result)
    assert (problem.code if problem else None) == code
    assert problem is None or problem.details.get("text", "") == text


@pytest.mark.parametrize(
    ("language", "required"),
    [
        ("", MIN_CONFIDENCE),
        ("en", MIN_CONFIDENCE),
        ("english", MIN_CONFIDENCE),
        ("English", MIN_CONFIDENCE),
        ("es", MIN_CONFIDENCE_ABROAD),
        ("french", MIN_CONFIDENCE_ABROAD),
        ("zh", MIN_CONFIDENCE_ABROAD),
    ],
)
def test_another_language_needs_less_confidence(language: str, required: float) -> None:
    """Speech in a detected language other than English is an answer at a lower confidence."""
    result = structs.replace(
        transcription(segment("Lideré un equipo."), confidence=required), language=language
    )
    assert find_problem(result) is None
    assert find_problem(structs.replace(result, confidence=required - 0.01)) is not None


@pytest.mark.parametrize("english_only", [False, True])
def test_an_english_only_model_is_named_as_the_reason(english_only: bool) -> None:
    """The message mentions the model's only language if the model has only one."""
    problem = find_problem(transcription(segment("x"), confidence=0.1, english_only=english_only))
    assert problem is not None
    assert ("only English" in problem.message) == english_only


@asynchronous
async def test_a_doubtful_recording_is_not_an_answer(tmp_path: Path) -> None:
    """A doubtful recording fails with its possible words, the question stays open, and the checked
    text is the answer."""
    async with Rooms(tmp_path, speech=UncertainSpeechModel(DOUBTFUL)) as rooms:
        client = await open_room(rooms)
        await client.send(LOUD)
        failure = await client.next(wire.Failure)
        assert failure.code == ErrorCode.SPEECH_DOUBTFUL
        assert failure.details["text"] == "we are going to be"
        state = await client.next(wire.StateChanged)
        assert state.failed is not None
        await client.send(answer("We were going to be faster."))
        message = await client.next_message(MessageKind.ANSWER)
        await client.next_message(MessageKind.QUESTION)
        truth = await request_snapshot(client)
    assert (message.text, message.source) == ("We were going to be faster.", wire.Source.TEXT)
    assert truth.failed is None
    assert message_kinds(truth.messages) == ["question", "answer", "question"]


@asynchronous
async def test_the_doubtful_words_survive_a_restart(tmp_path: Path) -> None:
    """A client that connects after the server has restarted finds the doubtful words in the
    snapshot, and a retry transcribes the stored recording again."""
    async with Rooms(tmp_path, speech=UncertainSpeechModel(DOUBTFUL)) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        await client.next(wire.AudioAck)
        for number in range(25):
            await client.send(codec.pack_frame(number, LOUD[number * 1_280 : (number + 1) * 1_280]))
        await client.send(client_messages.AudioStop(id="r1", frames=25))
        await client.next(wire.Failure)
    model = UncertainSpeechModel(CERTAIN)
    async with Rooms(tmp_path, speech=model) as rooms:
        again = await rooms.join(client.room)
        truth = await request_snapshot(again)
        assert truth.state is Phase.IDLE
        assert truth.failed is not None
        assert truth.failed.details["text"] == "we are going to be"
        await again.send(client_messages.TurnRetry(id="t1"))
        message = await again.next_message(MessageKind.ANSWER)
    assert message.text == "We moved it."
    assert model.recordings == [LOUD]


@asynchronous
async def test_another_recording_replaces_a_doubtful_one(tmp_path: Path) -> None:
    """After a doubtful recording the candidate can speak again; the good recording is the only
    answer."""
    async with Rooms(tmp_path, speech=UncertainSpeechModel(DOUBTFUL, DOUBTFUL, CERTAIN)) as rooms:
        client = await open_room(rooms)
        for _ in range(2):
            await client.send(LOUD)
            assert (await client.next(wire.Failure)).code == ErrorCode.SPEECH_DOUBTFUL
        await client.send(LOUD)
        await client.next_message(MessageKind.QUESTION)
        truth = await request_snapshot(client)
    assert [m.text for m in truth.messages if m.kind is MessageKind.ANSWER] == ["We moved it."]


@asynchronous
async def test_a_hint_after_a_doubtful_recording_keeps_its_words(tmp_path: Path) -> None:
    """A hint for the open question does not settle the doubt."""
    async with Rooms(tmp_path, speech=UncertainSpeechModel(DOUBTFUL)) as rooms:
        client = await open_room(rooms)
        await client.send(LOUD)
        await client.next(wire.Failure)
        await client.send(client_messages.HintRequest(id="h1"))
        await client.next_message(MessageKind.HINT)
        await client.wait_for_phase(Phase.IDLE)
        truth = await request_snapshot(client)
    assert truth.failed is not None
    assert truth.failed.code == ErrorCode.SPEECH_DOUBTFUL


@asynchronous
async def test_the_end_of_the_interview_settles_the_doubt(tmp_path: Path) -> None:
    """A candidate who ends the interview after a doubtful recording gets the closing; the doubtful
    words are no answer."""
    async with Rooms(tmp_path, speech=UncertainSpeechModel(DOUBTFUL)) as rooms:
        client = await open_room(rooms)
        await client.send(LOUD)
        await client.next(wire.Failure)
        await client.send(client_messages.InterviewEnd(id="e1"))
        await client.next_message(MessageKind.SUMMARY)
        await client.wait_for_phase(Phase.IDLE)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == ["question", "closing", "summary"]
    assert truth.failed is None
