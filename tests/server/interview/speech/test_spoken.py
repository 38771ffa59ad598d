"""Spoken answers, from the first frame to the stored text."""

from pathlib import Path

import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.conversation import (
    LOUD,
    SILENT,
    answer,
    message_kinds,
    open_room,
    request_snapshot,
)
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Rooms


@asynchronous
async def test_a_recording_in_frames_is_acknowledged_and_transcribed(tmp_path: Path) -> None:
    """Frames are acknowledged once they are stored, and the transcription becomes the answer."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        assert (await client.next(wire.AudioAck)).frame == -1
        for number in range(25):
            pcm = LOUD[number * 1_280 : (number + 1) * 1_280]
            await client.send(codec.pack_frame(number, pcm))
        assert (await client.next(wire.AudioAck)).frame == 12
        await client.send(client_messages.AudioStop(id="r1", frames=25))
        await client.wait_for_phase(Phase.TRANSCRIBING)
        message = await client.next_message(MessageKind.ANSWER)
    assert message.source is wire.Source.SPEECH
    assert message.text.startswith("I spoke for 1.0 seconds")


@asynchronous
async def test_a_recording_resumes_on_another_connection(tmp_path: Path) -> None:
    """A client that resumes a recording on another connection resends only the frames that were not
    stored, and no audio is duplicated."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        frames = [LOUD[at : at + 1_280] for at in range(0, len(LOUD), 1_280)]
        await client.send(client_messages.AudioStart(id="r1"))
        for number, pcm in enumerate(frames[:20]):
            await client.send(codec.pack_frame(number, pcm))
        room = client.room
        await client.leave()
        again = await rooms.join(room)
        await again.send(client_messages.AudioStart(id="r1"))
        stored = (await again.next(wire.AudioAck)).frame
        assert stored == 12
        for number, pcm in enumerate(frames):
            if number > stored:
                await again.send(codec.pack_frame(number, pcm))
        await again.send(client_messages.AudioStop(id="r1", frames=len(frames)))
        message = await again.next_message(MessageKind.ANSWER)
    assert message.text.startswith("I spoke for 1.0 seconds")


@pytest.mark.parametrize(
    ("pcm", "expected"),
    [
        (LOUD, ["question", "answer", "closing", "summary"]),
        (SILENT, ["question", "closing", "summary"]),
    ],
    ids=["speech", "silence"],
)
@asynchronous
async def test_ending_waits_for_the_transcription(
    tmp_path: Path, pcm: bytes, expected: list[str]
) -> None:
    """If the candidate ends the interview during a transcription, the closing follows the
    transcription, even after a restart."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await open_room(rooms, questions=9)
    async with Rooms(tmp_path, clock=clock, speech=ScriptedSpeechModel(clock, delay=1.0)) as rooms:
        client = await rooms.join(client.room)
        await client.send(pcm)
        await client.wait_for_phase(Phase.TRANSCRIBING)
        for id in ("e1", "e2"):
            await client.send(client_messages.InterviewEnd(id=id))
            await client.next(wire.Accepted)
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await rooms.join(client.room)
        await client.next_message(MessageKind.SUMMARY)
        await client.wait_for_phase(Phase.IDLE)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == expected


@asynchronous
async def test_silence_is_not_an_answer(tmp_path: Path) -> None:
    """A silent recording fails with the code `nothing_heard`, and the question stays open."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(SILENT)
        assert (await client.next(wire.Failure)).code == ErrorCode.NOTHING_HEARD
        await client.send(answer("In words, then."))
        await client.next_message(MessageKind.QUESTION)


@asynchronous
async def test_a_recording_that_is_too_long_is_rejected_once(tmp_path: Path) -> None:
    """When a recording is too long, one error is sent, and the recording's remaining frames are
    ignored."""
    async with Rooms(tmp_path, max_recording=0.5) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r1"))
        for number in range(25):
            await client.send(codec.pack_frame(number, LOUD[:1_280]))
        await client.send(answer("Shorter."))
        await client.next_message(MessageKind.QUESTION)
    failures = [m for m in client.messages if isinstance(m, wire.Failure)]
    assert [(f.code, f.id) for f in failures] == [(ErrorCode.RECORDING_TOO_LONG, "r1")]


@asynchronous
async def test_abandoned_recordings_are_replaced(tmp_path: Path) -> None:
    """A fifth open recording in a room is rejected until the client of one of the other four has
    disconnected."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        speakers = [client, *[await rooms.join(client.room) for _ in range(4)]]
        for number, speaker in enumerate(speakers[:4]):
            await speaker.send(client_messages.AudioStart(id=f"r{number}"))
            await speaker.next(wire.AudioAck)
        await speakers[4].send(client_messages.AudioStart(id="r4"))
        failure = await speakers[4].next(wire.Failure)
        assert (failure.code, failure.id) == (ErrorCode.TOO_MANY_RECORDINGS, "r4")
        await speakers[4].send(codec.pack_frame(0, LOUD))
        await speakers[3].leave()
        await speakers[4].send(client_messages.AudioStart(id="r4"))
        assert (await speakers[4].next(wire.AudioAck)).frame == -1
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == ["question"], (
        "a frame of a rejected recording is not an answer"
    )
