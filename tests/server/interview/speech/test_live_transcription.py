"""Live transcription of answers, with captions."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    Transcription,
)
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call
from prepserver.interview.speech.live_transcription import AUDIO_TIMEOUT, LiveTranscription
from prepserver.interview.stubs import InterviewStub
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind
from tests.server.interview.conversation import LOUD, open_room
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Client, Rooms

FRAME = 1_280
"""Bytes in a frame of 40 ms."""


class DyingSpeechModel(ScriptedSpeechModel):
    """Speech model whose engine dies after the first caption of each of the first `deaths` live
    transcriptions."""

    def __init__(self, clock: ManualClock, deaths: int) -> None:
        super().__init__(clock)
        self.deaths = deaths
        self.whole_recordings = 0

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        async for event in super().transcribe_live(audio, expected):
            yield event
            if self.deaths and isinstance(event, PartialTranscript):
                self.deaths -= 1
                raise InferenceError("The engine died.", code=ErrorCode.WORKER_DIED, retryable=True)

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        self.whole_recordings += 1
        return await super().transcribe(pcm, expected)


async def send_seconds(client: Client, seconds: int, *, begin: int = 0) -> None:
    """Send `seconds` seconds of sound in frames, starting `begin` seconds into the recording."""
    for number in range(begin * 25, (begin + seconds) * 25):
        await client.send(codec.pack_frame(number, LOUD[:FRAME]))


async def wait_for_caption(client: Client, text: str) -> wire.Caption:
    found = await client.until(lambda m: isinstance(m, wire.Caption) and m.text == text)
    assert isinstance(found, wire.Caption)
    return found


@asynchronous
async def test_captions_come_while_the_candidate_speaks(tmp_path: Path) -> None:
    """Each caption marks its committed text, and the answer is the transcription of the whole
    recording."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        await send_seconds(client, 1)
        assert (await wait_for_caption(client, "1 s")).committed == 0
        await send_seconds(client, 2, begin=1)
        third = await wait_for_caption(client, "2 s 3 s")
        assert third.text[: third.committed] == "2 s"
        await client.send(client_messages.AudioStop(id="r1", frames=75))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 3.0 seconds"
        )


@asynchronous
async def test_live_transcription_is_charged_once(tmp_path: Path) -> None:
    """A recording that is transcribed live is charged once, in addition to the next question."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        before = (await rooms.limiter.quota("user-1")).remaining
        await client.send(client_messages.AudioStart(id="r1"))
        await send_seconds(client, 2)
        await client.send(client_messages.AudioStop(id="r1", frames=50))
        await client.next_message(MessageKind.QUESTION)
        assert (await rooms.limiter.quota("user-1")).remaining == before - 2


@asynchronous
async def test_a_lost_engine_gets_the_recording_again(tmp_path: Path) -> None:
    """After the engine dies during a recording, a new engine receives the recording from its start,
    and the answer is complete."""
    clock = ManualClock()
    speech = DyingSpeechModel(clock, deaths=1)
    async with Rooms(tmp_path, clock=clock, speech=speech) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        await send_seconds(client, 1)
        await rooms.advance(5)
        await send_seconds(client, 2, begin=1)
        await wait_for_caption(client, "2 s 3 s")
        await client.send(client_messages.AudioStop(id="r1", frames=75))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 3.0 seconds"
        )
    assert (speech.deaths, speech.whole_recordings) == (0, 1)


@asynchronous
async def test_repeated_engine_deaths_end_the_captions(tmp_path: Path) -> None:
    """After the engine has died three times, captions end, and the finished recording is
    transcribed as a whole."""
    clock = ManualClock()
    speech = DyingSpeechModel(clock, deaths=100)
    async with Rooms(tmp_path, clock=clock, speech=speech) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        for second in range(6):
            await send_seconds(client, 1, begin=second)
            await rooms.advance(5)
        await client.send(client_messages.AudioStop(id="r1", frames=150))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 6.0 seconds"
        )
    assert speech.deaths == 97
    assert speech.whole_recordings == 1


@asynchronous
async def test_an_abandoned_recording_releases_the_transcriber(tmp_path: Path) -> None:
    """After half a minute without audio, the transcriber is released; further audio restarts the
    transcription from the beginning of the recording."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await open_room(rooms)
        instance = rooms.registry.instance("interview", client.room)
        await client.send(client_messages.AudioStart(id="r1"))
        await send_seconds(client, 1)
        await wait_for_caption(client, "1 s")
        await rooms.advance(AUDIO_TIMEOUT - 1)
        assert not instance.idle
        await rooms.advance(2)
        assert instance.idle
        await send_seconds(client, 2, begin=1)
        await wait_for_caption(client, "2 s 3 s")
        await client.send(client_messages.AudioStop(id="r1", frames=75))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 3.0 seconds"
        )


@asynchronous
async def test_captions_continue_after_a_restart(tmp_path: Path) -> None:
    """After a restart, the transcriber first receives the stored part of the recording, and
    captions continue."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await open_room(rooms)
        room = client.room
        await client.send(client_messages.AudioStart(id="r1"))
        await send_seconds(client, 2)
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await rooms.join(room)
        await client.send(client_messages.AudioStart(id="r1"))
        stored = (await client.next(wire.AudioAck)).frame
        assert stored >= 38
        for number in range(stored + 1, 100):
            await client.send(codec.pack_frame(number, LOUD[:FRAME]))
        await wait_for_caption(client, "3 s 4 s")
        await client.send(client_messages.AudioStop(id="r1", frames=100))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 4.0 seconds"
        )


@asynchronous
async def test_a_cancelled_recording_gets_no_more_captions(tmp_path: Path) -> None:
    """Neither the captions nor the answer of a recording contain anything from a recording that was
    cancelled earlier."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        await send_seconds(client, 1)
        await wait_for_caption(client, "1 s")
        await client.send(client_messages.AudioCancel(id="r1"))
        await client.send(client_messages.AudioStart(id="r2"))
        await send_seconds(client, 1)
        await wait_for_caption(client, "1 s")
        await client.send(client_messages.AudioStop(id="r2", frames=25))
        assert (await client.next_message(MessageKind.ANSWER)).text.startswith(
            "I spoke for 1.0 seconds"
        )


@asynchronous
async def test_a_cancelled_live_transcription_has_an_error_as_its_result(tmp_path: Path) -> None:
    """Waiting for the result of a cancelled live transcription raises InferenceError with the code
    `not_heard`."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock) as rooms:
        live = LiveTranscription("r1", clock)
        call = Call(purpose="answer", user="user-1", interview="i", request="i/r1")
        running = asyncio.create_task(
            live.run(rooms.gateway, call, NOTHING_EXPECTED, lambda _: None)
        )
        live.feed(LOUD)
        await rooms.advance(1)
        running.cancel()
        with pytest.raises(InferenceError) as error:
            await live.result
        assert error.value.code == ErrorCode.NOT_HEARD


@asynchronous
async def test_the_transcription_of_a_spoken_answer_is_stored(tmp_path: Path) -> None:
    """The stored transcription of a spoken answer contains the answer's text and segments."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(LOUD)
        message = await client.next_message(MessageKind.ANSWER)
        speech = await rooms.registry.call(InterviewStub(client.room).transcription(message.id))
    assert isinstance(speech, Transcription)
    assert speech.text == message.text
    assert [segment.text for segment in speech.segments] == [message.text]
