"""Spoken answers in a room of a real server: recordings, frames and invalid audio."""

import contextlib
import wave
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from prepserver.wire import client_messages, codec, limits
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.rest import SpokenAnswer
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server

pytestmark = pytest.mark.e2e


def tone(seconds: float) -> bytes:
    """Return an audible tone of `seconds` seconds as PCM16 samples."""
    return b"\x00\x10\x00\xf0" * int(seconds * wire.SAMPLE_RATE / 2)


def frames(pcm: bytes) -> list[bytes]:
    size = wire.BYTES_PER_SECOND // 25
    pieces = [pcm[start : start + size] for start in range(0, len(pcm), size)]
    return [codec.pack_frame(number, piece) for number, piece in enumerate(pieces)]


def test_a_recording_in_one_message_is_an_answer(room: RoomClient, speech_dir: Path) -> None:
    """A WAV file in one message is transcribed and followed by the next question."""
    [file] = speech_dir.glob("short-answer.wav")
    room.send(file.read_bytes())
    with wave.open(str(file)) as recording:
        seconds = recording.getnframes() / recording.getframerate()
    assert f"{seconds:.1f} seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text
    assert room.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")


def test_the_transcription_of_an_answer(
    server: Server, room: RoomClient, ada: str, bob: str, interview: str
) -> None:
    """Only the owner of an interview can read the transcription of a spoken answer."""
    room.send(tone(1.0))
    answer = room.next_of_kind(wire.MessageKind.ANSWER)
    question = room.next_of_kind(wire.MessageKind.QUESTION)
    path = f"/api/interviews/{interview}/messages/{answer.id}/speech"
    transcription = msgspec.convert(server.request("GET", path, key=ada).body, SpokenAnswer)
    assert transcription.text == answer.text
    assert transcription.seconds == pytest.approx(1.0)
    assert server.request("GET", path, key=bob).status == 404
    typed = path.replace(answer.id, question.id)
    assert server.request("GET", typed, key=ada).body["error"]["code"] == ErrorCode.NO_SUCH_MESSAGE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", ErrorCode.EMPTY_RECORDING, id="empty"),
        pytest.param(b"\x00\x10" * 100, ErrorCode.EMPTY_RECORDING, id="a click"),
        pytest.param(b"%PDF-1.7 and so on" * 100, ErrorCode.NOT_AUDIO, id="a PDF"),
        pytest.param(b"My answer, as text in a binary message.", ErrorCode.NOT_AUDIO, id="text"),
        pytest.param(b"RIFF" + b"\x00" * 1_000, ErrorCode.NOT_AUDIO, id="a broken WAV"),
        pytest.param(
            bytes(limits.MAX_BINARY_FRAME + 2), ErrorCode.RECORDING_TOO_LONG, id="over 4 MiB"
        ),
    ],
)
def test_invalid_recordings_are_rejected(room: RoomClient, data: bytes, code: str) -> None:
    """An invalid recording is rejected with an error code, and the question stays open."""
    room.send(data)
    assert room.next(wire.Failure).code == code
    room.check_interview_continues()


def test_the_longest_recording_in_one_message_is_accepted(room: RoomClient) -> None:
    """A recording of 4 MiB in one message is accepted."""
    room.send(tone(limits.MAX_BINARY_FRAME / wire.BYTES_PER_SECOND))
    assert "131.1 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_an_oversized_recording_closes_only_its_connection(
    server: Server, ada: str, room: RoomClient
) -> None:
    """A recording far above the size limit closes only its own connection, and the interview
    continues."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    with open_room(server.room("interview", hello.room, server.token(ada))) as loud:
        loud.next(wire.Snapshot)
        with contextlib.suppress(ConnectionClosed):  # if the server closes before all is written
            loud.send(bytes(3 * limits.MAX_BINARY_FRAME))
        with pytest.raises(ConnectionClosed):
            loud.wait_for(lambda m: False)
    room.check_interview_continues()


def test_silence_is_reported(room: RoomClient) -> None:
    """A silent recording fails as `nothing_heard`, and the question stays open."""
    room.send(bytes(wire.BYTES_PER_SECOND))
    assert room.next(wire.Failure).code == ErrorCode.NOTHING_HEARD
    room.wait_for(lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE)
    room.check_interview_continues()


def test_frames_become_an_answer(room: RoomClient) -> None:
    """Numbered frames are acknowledged and become one answer."""
    room.send(client_messages.AudioStart(id="r"))
    assert room.next(wire.AudioAck) == wire.AudioAck(id="r", frame=-1)
    sent = frames(tone(2.0))
    for frame in sent:
        room.send(frame)
    room.send(client_messages.AudioStop(id="r", frames=len(sent)))
    assert room.next(wire.AudioAck).frame > 0
    assert "2.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_recording_is_resumed_on_another_connection(
    server: Server, ada: str, room: RoomClient
) -> None:
    """After a connection is lost during a recording, another connection receives the number of the
    last stored frame and continues the recording."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    sent = frames(tone(3.0))
    with open_room(server.room("interview", hello.room, server.token(ada))) as first:
        first.next(wire.Snapshot)
        first.send(client_messages.AudioStart(id="r"))
        for frame in sent[:40]:
            first.send(frame)
        while first.next(wire.AudioAck).frame < 20:
            pass
        first.connection.socket.close()  # without a close frame
    room.send(client_messages.AudioStart(id="r"))
    stored = room.next(wire.AudioAck).frame
    assert stored >= 20
    for frame in sent[stored + 1 :]:
        room.send(frame)
    room.send(client_messages.AudioStop(id="r", frames=len(sent)))
    assert "3.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_gap_in_the_frames_closes_the_connection(
    server: Server, ada: str, room: RoomClient
) -> None:
    """A gap in the frames closes the connection, and another connection can send the missing
    frames."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    sent = frames(tone(1.0))
    with open_room(server.room("interview", hello.room, server.token(ada))) as lossy:
        lossy.next(wire.Snapshot)
        lossy.send(client_messages.AudioStart(id="r"))
        lossy.send(sent[0])
        lossy.send(sent[2])
        assert lossy.wait_for_close() == wire.CLOSE_RESTART
    room.send(client_messages.AudioStart(id="r"))
    stored = room.next(wire.AudioAck).frame
    for frame in sent[stored + 1 :]:
        room.send(frame)
    room.send(client_messages.AudioStop(id="r", frames=len(sent)))
    assert "1.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_stop_with_missing_frames_is_rejected(room: RoomClient) -> None:
    """An `audio.stop` that counts more frames than were received is rejected, and the recording can
    still be completed."""
    sent = frames(tone(1.0))
    room.send(client_messages.AudioStart(id="r"))
    for frame in sent[:20]:
        room.send(frame)
    room.send(client_messages.AudioStop(id="r", frames=len(sent)))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id, failure.retryable) == (ErrorCode.FRAMES_MISSING, "r", True)
    room.send(client_messages.AudioStart(id="r"))
    stored = room.wait_for(lambda m: isinstance(m, wire.AudioAck) and m.frame >= 19)
    assert stored == wire.AudioAck(id="r", frame=19)
    for frame in sent[20:]:
        room.send(frame)
    room.send(client_messages.AudioStop(id="r", frames=len(sent)))
    assert "1.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_repeated_stop_is_one_answer(room: RoomClient) -> None:
    """A repeated `audio.stop` is accepted again, and only one answer is stored."""
    sent = frames(tone(1.0))
    room.send(client_messages.AudioStart(id="r"))
    for frame in sent:
        room.send(frame)
    for _ in range(2):
        room.send(client_messages.AudioStop(id="r", frames=len(sent)))
        assert room.next(wire.Accepted).id == "r"
    room.next_of_kind(wire.MessageKind.QUESTION)
    room.send(client_messages.GetAllMessages())
    kinds = [m.kind for m in room.next(wire.Snapshot).messages]
    assert kinds.count(wire.MessageKind.ANSWER) == 1


def test_an_empty_recording_is_rejected(room: RoomClient) -> None:
    """A recording without frames is rejected as `empty_recording`."""
    room.send(client_messages.AudioStart(id="r"))
    room.send(client_messages.AudioStop(id="r", frames=0))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id) == (ErrorCode.EMPTY_RECORDING, "r")
    room.check_interview_continues()


@pytest.mark.parametrize("frame", [b"", b"\x00\x00", b"\x00\x00\x00\x00\x01"])
def test_malformed_frames_are_rejected(room: RoomClient, frame: bytes) -> None:
    """A frame with an incomplete header or half a sample is rejected as `bad_frame`."""
    room.send(client_messages.AudioStart(id="r"))
    room.send(frame)
    assert room.next(wire.Failure).code == ErrorCode.BAD_FRAME
    room.send(client_messages.AudioCancel(id="r"))
    room.check_interview_continues()


def test_a_recording_that_is_too_long_is_rejected_once(room: RoomClient) -> None:
    """A recording longer than ten minutes is rejected once, and its further frames are ignored."""
    room.send(client_messages.AudioStart(id="r"))
    second = tone(60.0)
    for number in range(14):  # minutes; ten are allowed
        room.send(codec.pack_frame(number, second))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id) == (ErrorCode.RECORDING_TOO_LONG, "r")
    assert failure.details == {"seconds": 600}
    room.send(client_messages.AudioCancel(id="r"))
    room.send(client_messages.GetAllMessages())
    room.next(wire.Snapshot)
    assert sum(isinstance(m, wire.Failure) for m in room.messages) == 1
    room.check_interview_continues()
