"""Live transcription of spoken answers by the real models."""

import itertools
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.e2e.test_real_models import create_interview, room_address, wait_for_first_question
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server
from tests.support.wer import wer

pytestmark = [pytest.mark.e2e, pytest.mark.models]

FRAME = wire.BYTES_PER_SECOND // 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("live")
    models = ("--model", "smollm2-135m-instruct", "--stt-model", "whisper-tiny.en")
    with Server(folder, *models, "--models-dir", str(models_dir)) as running:
        yield running


def pcm_of(recording: Path) -> bytes:
    with wave.open(str(recording)) as file:
        return bytes(file.readframes(file.getnframes()))


def transcript(recording: Path) -> str:
    lines = (recording.parent / "transcripts.tsv").read_text("utf-8").splitlines()
    return dict(line.split("\t") for line in lines)[recording.stem]


def send_frames(socket: RoomClient, pcm: bytes, begin: int = 0) -> int:
    """Send audio as frames numbered from `begin`, and return the number of the next frame."""
    pieces = [pcm[at : at + FRAME] for at in range(0, len(pcm), FRAME)]
    for number, piece in enumerate(pieces, begin):
        socket.send(codec.pack_frame(number, piece))
    return begin + len(pieces)


def test_captions_precede_the_end_of_the_answer(server: Server, speech_dir: Path) -> None:
    """Committed text arrives before the recording ends and resembles the answer; the answer has a
    word error rate below 0.2, and its words are stored with their times."""
    key = server.add_user("ada")
    id = create_interview(server, key)
    wait_for_first_question(server, key, id)
    recording = speech_dir / "event-sourcing.wav"
    with open_room(room_address(server, key, id)) as socket:
        socket.next(wire.Snapshot)
        socket.send(client_messages.AudioStart(id="r1"))
        frames = send_frames(socket, pcm_of(recording))
        caption = socket.wait_for(lambda m: isinstance(m, wire.Caption) and m.committed > 20)
        assert isinstance(caption, wire.Caption)
        socket.send(client_messages.AudioStop(id="r1", frames=frames))
        answer = socket.next_of_kind(MessageKind.ANSWER)
        question = socket.next_of_kind(MessageKind.QUESTION)
    assert wer(transcript(recording), answer.text) < 0.2
    assert wer(caption.text[: caption.committed], answer.text[: caption.committed]) < 0.35
    assert question.text.endswith("?")
    path = f"/api/interviews/{id}/messages/{answer.id}/speech"
    speech = server.request("GET", path, key=key).body
    words = [word for segment in speech["segments"] for word in segment["words"]]
    assert len(words) >= 20
    assert all(a["start"] <= b["start"] for a, b in itertools.pairwise(words))


def test_a_recording_continues_after_the_server_is_killed(server: Server, speech_dir: Path) -> None:
    """After the server is killed and restarted, a recording continues with the first frame that was
    not stored, and the answer covers the whole recording."""
    key = server.add_user("bob")
    id = create_interview(server, key)
    wait_for_first_question(server, key, id)
    recording = speech_dir / "conflict.wav"
    pcm = pcm_of(recording)
    half = len(pcm) // FRAME // 2
    with open_room(room_address(server, key, id)) as socket:
        socket.next(wire.Snapshot)
        socket.send(client_messages.AudioStart(id="r1"))
        send_frames(socket, pcm[: half * FRAME])
        socket.wait_for(lambda m: isinstance(m, wire.AudioAck) and m.frame > half // 2)
        server.kill()
    server.start()
    with open_room(room_address(server, key, id)) as socket:
        socket.send(client_messages.AudioStart(id="r1"))
        stored = socket.next(wire.AudioAck).frame
        assert stored > half // 2
        frames = send_frames(socket, pcm[(stored + 1) * FRAME :], stored + 1)
        socket.next(wire.Caption)
        socket.send(client_messages.AudioStop(id="r1", frames=frames))
        answer = socket.next_of_kind(MessageKind.ANSWER)
    assert wer(transcript(recording), answer.text) < 0.2
