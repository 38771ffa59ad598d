"""Spoken answers that are written down while they are spoken."""

from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.errors import InferenceError
from prepserver.interview.speech.live_transcription import AUDIO_TIMEOUT
from prepserver.interview.stubs import InterviewStub
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind
from tests.server.interview.conversation import LOUD, open_room
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Client, Rooms

FRAME = 1_280
"""Bytes of 40 ms."""


class FrailSpeech(ScriptedSpeechModel):
    """Dies as often as it is told to, each time after its first caption."""

    def __init__(self, clock: ManualClock, deaths: int) -> None:
        super().__init__(clock)
        self.deaths = deaths
        self.heard_whole = 0

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        async for event in super().transcribe_live(audio, vocabulary):
            yield event
            if self.deaths and isinstance(event, PartialTranscript):
                self.deaths -= 1
                raise InferenceError("The ears died.", code=ErrorCode.WORKER_DIED, retryable=True)

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Transcription:
        self.heard_whole += 1
        return await super().transcribe(pcm, vocabulary)


async def speak(client: Client, seconds: int, *, begin: int = 0) -> None:
    """Whole seconds of sound, in frames."""
    for number in range(begin * 25, (begin + seconds) * 25):
        await client.send(codec.pack_frame(number, LOUD[:FRAME]))


async def caption(client: Client, text: str) -> wire.Caption:
    found = await client.until(lambda m: isinstance(m, wire.Caption) and m.text == text)
    assert isinstance(found, wire.Caption)
    return found


@asynchronous
async def test_captions_come_while_the_candidate_speaks(tmp_path: Path) -> None:
    """Each says how much of it is certain; the answer is the whole of what was heard."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(wire.AudioStart(id="r1"))
        await speak(client, 1)
        assert (await caption(client, "1 s")).committed == 0
        await speak(client, 2, begin=1)
        third = await caption(client, "2 s 3 s")
        assert third.text[: third.committed] == "2 s"
        await client.send(wire.AudioStop(id="r1", frames=75))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 3.0 seconds"
        )


@asynchronous
async def test_listening_costs_one_request(tmp_path: Path) -> None:
    """The ears that follow a recording and the turn that uses what they heard are one."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        before = (await rooms.limiter.quota("user-1")).remaining
        await client.send(wire.AudioStart(id="r1"))
        await speak(client, 2)
        await client.send(wire.AudioStop(id="r1", frames=50))
        await client.next_message(MessageKind.QUESTION)
        assert (await rooms.limiter.quota("user-1")).remaining == before - 2


@asynchronous
async def test_ears_that_die_hear_the_recording_again(tmp_path: Path) -> None:
    """What they had heard is given to them once more, from the database; nothing is missing."""
    clock = ManualClock()
    speech = FrailSpeech(clock, deaths=1)
    async with Rooms(tmp_path, clock=clock, speech=speech) as rooms:
        client = await open_room(rooms)
        await client.send(wire.AudioStart(id="r1"))
        await speak(client, 1)
        await rooms.advance(5)
        await speak(client, 2, begin=1)
        await caption(client, "2 s 3 s")
        await client.send(wire.AudioStop(id="r1", frames=75))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 3.0 seconds"
        )
    assert (speech.deaths, speech.heard_whole) == (0, 1)


@asynchronous
async def test_ears_that_die_again_and_again_are_given_the_whole(tmp_path: Path) -> None:
    """Captions end; the recording is transcribed when it is there."""
    clock = ManualClock()
    speech = FrailSpeech(clock, deaths=100)
    async with Rooms(tmp_path, clock=clock, speech=speech) as rooms:
        client = await open_room(rooms)
        await client.send(wire.AudioStart(id="r1"))
        for second in range(6):
            await speak(client, 1, begin=second)
            await rooms.advance(5)
        await client.send(wire.AudioStop(id="r1", frames=150))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 6.0 seconds"
        )
    assert speech.deaths == 97
    assert speech.heard_whole == 1


@asynchronous
async def test_a_speaker_who_vanishes_frees_the_ears(tmp_path: Path) -> None:
    """After half a minute without a sound they follow nobody, and the interview may hibernate;
    when sound comes again they hear all of it."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await open_room(rooms)
        instance = rooms.registry.instance("interview", client.room)
        await client.send(wire.AudioStart(id="r1"))
        await speak(client, 1)
        await caption(client, "1 s")
        await rooms.advance(AUDIO_TIMEOUT - 1)
        assert not instance.idle
        await rooms.advance(2)
        assert instance.idle
        await speak(client, 2, begin=1)
        await caption(client, "2 s 3 s")
        await client.send(wire.AudioStop(id="r1", frames=75))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 3.0 seconds"
        )


@asynchronous
async def test_a_recording_goes_on_with_captions_after_a_restart(tmp_path: Path) -> None:
    """The new server's ears hear the stored part first."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await open_room(rooms)
        room = client.room
        await client.send(wire.AudioStart(id="r1"))
        await speak(client, 2)
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await rooms.join(room)
        await client.send(wire.AudioStart(id="r1"))
        stored = (await client.next(wire.AudioAck)).frame
        assert stored >= 38
        for number in range(stored + 1, 100):
            await client.send(codec.pack_frame(number, LOUD[:FRAME]))
        await caption(client, "3 s 4 s")
        await client.send(wire.AudioStop(id="r1", frames=100))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 4.0 seconds"
        )


@asynchronous
async def test_a_recording_that_is_cancelled_is_not_followed_any_more(tmp_path: Path) -> None:
    """No caption comes after the cancellation, and the next recording has ears of its own."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(wire.AudioStart(id="r1"))
        await speak(client, 1)
        await caption(client, "1 s")
        await client.send(wire.AudioCancel(id="r1"))
        await client.send(wire.AudioStart(id="r2"))
        await speak(client, 1)
        await caption(client, "1 s")
        await client.send(wire.AudioStop(id="r2", frames=25))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 1.0 seconds"
        )


@asynchronous
async def test_how_an_answer_was_heard_is_kept(tmp_path: Path) -> None:
    """With its segments, until the interview is deleted; for spoken answers alone."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(LOUD)
        said = await client.next_message(MessageKind.ANSWER)
        speech = await rooms.registry.call(InterviewStub(client.room).transcription(said.id))
    assert isinstance(speech, Transcription)
    assert speech.text == said.text
    assert [segment.text for segment in speech.segments] == [said.text]
