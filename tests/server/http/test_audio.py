"""Spoken answers in a real server's room: recordings, numbered frames, and what is neither."""

import contextlib
import wave
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from prepserver.wire import codec, limits
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.rest import SpokenAnswer
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server

pytestmark = pytest.mark.e2e


def tone(seconds: float) -> bytes:
    """Samples that are not silence."""
    return b"\x00\x10\x00\xf0" * int(seconds * wire.SAMPLE_RATE / 2)


def frames(pcm: bytes) -> list[bytes]:
    size = wire.BYTES_PER_SECOND // 25
    pieces = [pcm[start : start + size] for start in range(0, len(pcm), size)]
    return [codec.pack_frame(number, piece) for number, piece in enumerate(pieces)]


def test_a_recording_in_one_message_is_an_answer(room: RoomClient, speech_dir: Path) -> None:
    """A WAV file as it is, transcribed and followed by the next question."""
    [file] = speech_dir.glob("short-answer.wav")
    room.send(file.read_bytes())
    with wave.open(str(file)) as recording:
        seconds = recording.getnframes() / recording.getframerate()
    assert f"{seconds:.1f} seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text
    assert room.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")


def test_how_an_answer_was_heard_can_be_asked_for(
    server: Server, room: RoomClient, ada: str, bob: str, interview: str
) -> None:
    """By the owner alone, and of spoken answers alone."""
    room.send(tone(1.0))
    said = room.next_of_kind(wire.MessageKind.ANSWER)
    question = room.next_of_kind(wire.MessageKind.QUESTION)
    path = f"/api/interviews/{interview}/messages/{said.id}/speech"
    heard = msgspec.convert(server.request("GET", path, key=ada).body, SpokenAnswer)
    assert heard.text == said.text
    assert heard.seconds == pytest.approx(1.0)
    assert server.request("GET", path, key=bob).status == 404
    typed = path.replace(said.id, question.id)
    assert server.request("GET", typed, key=ada).body["error"]["code"] == ErrorCode.NO_SUCH_MESSAGE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "empty_recording", id="empty"),
        pytest.param(b"\x00\x10" * 100, "empty_recording", id="a click"),
        pytest.param(b"%PDF-1.7 and so on" * 100, "not_audio", id="a PDF"),
        pytest.param(b"My answer, as text in a binary message.", "not_audio", id="text"),
        pytest.param(b"RIFF" + b"\x00" * 1_000, "not_audio", id="a broken WAV"),
        pytest.param(bytes(limits.MAX_BINARY_FRAME + 2), "recording_too_long", id="over 4 MiB"),
    ],
)
def test_a_message_that_is_no_recording_is_told_why(
    room: RoomClient, data: bytes, code: str
) -> None:
    """A typed error, and the question stays open."""
    room.send(data)
    assert room.next(wire.Failure).code == code
    room.check_interview_continues()


def test_the_longest_recording_in_one_message_is_taken(room: RoomClient) -> None:
    """Four MiB, two minutes."""
    room.send(tone(limits.MAX_BINARY_FRAME / wire.BYTES_PER_SECOND))
    assert "131.1 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_message_larger_than_any_recording_ends_the_socket_and_not_the_room(
    server: Server, ada: str, room: RoomClient
) -> None:
    """What is too long even to be read to its end is not read: the server hangs up."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    with open_room(server.room("interview", hello.room, server.token(ada))) as loud:
        loud.next(wire.Snapshot)
        with contextlib.suppress(ConnectionClosed):  # if it hangs up before all is written
            loud.send(bytes(3 * limits.MAX_BINARY_FRAME))
        with pytest.raises(ConnectionClosed):
            loud.wait_for(lambda m: False)
    room.check_interview_continues()


def test_silence_is_told_as_such(room: RoomClient) -> None:
    """No words are invented; the question stays open."""
    room.send(bytes(wire.BYTES_PER_SECOND))
    assert room.next(wire.Failure).code == ErrorCode.NOTHING_HEARD
    room.wait_for(lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE)
    room.check_interview_continues()


def test_frames_become_an_answer(room: RoomClient) -> None:
    """Numbered frames, acknowledged as they are stored, make one recording."""
    room.send(wire.AudioStart(id="r"))
    assert room.next(wire.AudioAck) == wire.AudioAck(id="r", frame=-1)
    sent = frames(tone(2.0))
    for frame in sent:
        room.send(frame)
    room.send(wire.AudioStop(id="r", frames=len(sent)))
    assert room.next(wire.AudioAck).frame > 0
    assert "2.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_recording_goes_on_over_a_second_connection(
    server: Server, ada: str, room: RoomClient
) -> None:
    """The new socket is told what is stored, and sends what follows it."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    sent = frames(tone(3.0))
    with open_room(server.room("interview", hello.room, server.token(ada))) as first:
        first.next(wire.Snapshot)
        first.send(wire.AudioStart(id="r"))
        for frame in sent[:40]:
            first.send(frame)
        while first.next(wire.AudioAck).frame < 20:
            pass
        first.connection.socket.close()  # gone without a word
    room.send(wire.AudioStart(id="r"))
    stored = room.next(wire.AudioAck).frame
    assert stored >= 20
    for frame in sent[stored + 1 :]:
        room.send(frame)
    room.send(wire.AudioStop(id="r", frames=len(sent)))
    assert "3.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_gap_in_the_frames_asks_the_client_to_come_back(
    server: Server, ada: str, room: RoomClient
) -> None:
    """Lost frames are sent again after a reconnect; nothing is transcribed with a hole."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    sent = frames(tone(1.0))
    with open_room(server.room("interview", hello.room, server.token(ada))) as lossy:
        lossy.next(wire.Snapshot)
        lossy.send(wire.AudioStart(id="r"))
        lossy.send(sent[0])
        lossy.send(sent[2])
        assert lossy.wait_for_close() == wire.CLOSE_RESTART
    room.send(wire.AudioStart(id="r"))
    stored = room.next(wire.AudioAck).frame
    for frame in sent[stored + 1 :]:
        room.send(frame)
    room.send(wire.AudioStop(id="r", frames=len(sent)))
    assert "1.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_recording_that_ends_too_early_is_asked_for_again(room: RoomClient) -> None:
    """`audio.stop` names more frames than there are: nothing is lost, nothing is guessed."""
    sent = frames(tone(1.0))
    room.send(wire.AudioStart(id="r"))
    for frame in sent[:20]:
        room.send(frame)
    room.send(wire.AudioStop(id="r", frames=len(sent)))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id, failure.retryable) == ("frames_missing", "r", True)
    room.send(wire.AudioStart(id="r"))
    stored = room.wait_for(lambda m: isinstance(m, wire.AudioAck) and m.frame >= 19)
    assert stored == wire.AudioAck(id="r", frame=19)
    for frame in sent[20:]:
        room.send(frame)
    room.send(wire.AudioStop(id="r", frames=len(sent)))
    assert "1.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_stop_sent_twice_is_one_answer(room: RoomClient) -> None:
    """The second is acknowledged and changes nothing."""
    sent = frames(tone(1.0))
    room.send(wire.AudioStart(id="r"))
    for frame in sent:
        room.send(frame)
    for _ in range(2):
        room.send(wire.AudioStop(id="r", frames=len(sent)))
        assert room.next(wire.Accepted).id == "r"
    room.next_of_kind(wire.MessageKind.QUESTION)
    room.send(wire.GetAllMessages())
    kinds = [m.kind for m in room.next(wire.Snapshot).messages]
    assert kinds.count(wire.MessageKind.ANSWER) == 1


def test_an_empty_recording_by_frames_is_told(room: RoomClient) -> None:
    """Started and stopped with nothing between."""
    room.send(wire.AudioStart(id="r"))
    room.send(wire.AudioStop(id="r", frames=0))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id) == ("empty_recording", "r")
    room.check_interview_continues()


@pytest.mark.parametrize("frame", [b"", b"\x00\x00", b"\x00\x00\x00\x00\x01"])
def test_a_frame_that_is_none_is_told(room: RoomClient, frame: bytes) -> None:
    """Shorter than its header, or half a sample."""
    room.send(wire.AudioStart(id="r"))
    room.send(frame)
    assert room.next(wire.Failure).code == ErrorCode.BAD_FRAME
    room.send(wire.AudioCancel(id="r"))
    room.check_interview_continues()


def test_a_recording_of_two_hours_is_cut_off_early(room: RoomClient) -> None:
    """At the longest answer the client is told once; what it still sends does no harm."""
    room.send(wire.AudioStart(id="r"))
    second = tone(60.0)
    for number in range(14):  # minutes, of ten that are allowed
        room.send(codec.pack_frame(number, second))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id) == ("recording_too_long", "r")
    assert failure.details == {"seconds": 600}
    room.send(wire.AudioCancel(id="r"))
    room.send(wire.GetAllMessages())
    room.next(wire.Snapshot)
    assert sum(isinstance(m, wire.Failure) for m in room.messages) == 1
    room.check_interview_continues()
