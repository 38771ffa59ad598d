"""Interviews on the real models, with recordings and killed processes."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server
from tests.support.wer import wer

pytestmark = [pytest.mark.e2e, pytest.mark.models]

MODELS = ("--model", "smollm2-135m-instruct", "--stt-model", "whisper-tiny.en")

INTERVIEWS = 8

TIMEOUT = 90.0
"""Maximum number of real seconds to wait for a condition, even on a busy machine."""

ANSWER = (
    "I moved the ledger out of the monolith with two engineers, because it was the clearest part."
)


@pytest.fixture
def server(tmp_path: Path, models_dir: Path) -> Iterator[Server]:
    with Server(tmp_path, *MODELS, "--models-dir", str(models_dir)) as running:
        yield running


@pytest.fixture
def instruct_server(tmp_path: Path, models_dir: Path) -> Iterator[Server]:
    """Server whose language model writes the replies, although it is small."""
    flags = (*MODELS, "--models-dir", str(models_dir))
    with Server(tmp_path, *flags, module="tests.support.instruct_server") as running:
        yield running


def eventually(poll: Callable[[], Any]) -> Any:
    """Call `poll` until it returns a true value, for at most `TIMEOUT` seconds, and return that
    value."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := poll()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
    return value


def create_interview(server: Server, key: str, **spec: Any) -> str:
    spec = {"role": "Backend Engineer", "type": "technical", "questions": 7, **spec}
    reply = server.request("POST", "/api/interviews", key=key, body=spec)
    assert reply.status == 201
    return str(reply.body["id"])


def messages(server: Server, key: str, id: str) -> list[dict[str, Any]]:
    return list(server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"])


def kinds(server: Server, key: str, id: str) -> list[str]:
    return [message["kind"] for message in messages(server, key, id)]


def wait_for_first_question(server: Server, key: str, id: str) -> None:
    eventually(lambda: kinds(server, key, id) == ["question"])


def room_address(server: Server, key: str, id: str) -> str:
    return server.room("interview", id, server.token(key))


def test_a_server_killed_while_it_generates_finishes_the_turn(instruct_server: Server) -> None:
    """If the server is killed while the model writes a reply, the restarted server asks the next
    question without a new request, and `prep interview` prints the whole conversation."""
    key = instruct_server.add_user()
    id = create_interview(instruct_server, key)
    wait_for_first_question(instruct_server, key, id)
    with open_room(room_address(instruct_server, key, id)) as socket:
        socket.send(client_messages.UserMessage(id="m1", text=ANSWER))
        socket.next(wire.Accepted)
        socket.next(wire.Delta)
        instruct_server.kill()
    instruct_server.start()
    eventually(lambda: kinds(instruct_server, key, id) == ["question", "answer", "question"])
    transcript = messages(instruct_server, key, id)
    assert transcript[1]["text"] == ANSWER
    assert transcript[2]["text"].endswith("?")
    assert "purpose=question" in instruct_server.log, "the model wrote no question"
    command = subprocess.run(
        [
            *(sys.executable, "-m", "prepcli", "interview", "--plain"),
            *("--id", id, "--server", instruct_server.url),
        ],
        env={**os.environ, "PREP_ACCESS_KEY": key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert command.returncode == 0, command.stderr
    for message in transcript:
        assert message["text"] in command.stdout


@pytest.mark.parametrize("engine", ["llama", "whisper"])
def test_a_killed_engine_costs_every_interview_one_retry(
    instruct_server: Server, speech_dir: Path, engine: str
) -> None:
    """If an engine is killed while it is serving eight interviews, each turn finishes, no text is
    repeated, and the server keeps running."""
    key = instruct_server.add_user()
    ids = [create_interview(instruct_server, key) for _ in range(INTERVIEWS)]
    with contextlib.ExitStack() as opened:
        sockets = []
        for id in ids:
            wait_for_first_question(instruct_server, key, id)
            socket = opened.enter_context(open_room(room_address(instruct_server, key, id)))
            socket.next(wire.Snapshot)
            sockets.append(socket)
        for socket in sockets:
            if engine == "whisper":
                socket.send((speech_dir / "short-answer.wav").read_bytes())
            else:
                socket.send(client_messages.UserMessage(id="m1", text=ANSWER))
        if engine == "whisper":
            sockets[-1].wait_for(
                lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.TRANSCRIBING
            )
        else:
            sockets[0].next(wire.Delta)
        os.kill(engine_pid(instruct_server, engine), signal.SIGKILL)
        for socket in sockets:
            whole = eventually(functools.partial(received_question, socket))
            assert streamed_text(socket) == whole.text
    for id in ids:
        assert kinds(instruct_server, key, id) == ["question", "answer", "question"]
    assert "purpose=question" in instruct_server.log, "the model wrote no question"
    assert instruct_server.request("GET", "/health/live").status == 200


def streamed_text(socket: RoomClient) -> str:
    """Check the offset of each delta, and return the text of all deltas since the last dropped
    reply."""
    text = ""
    for message in socket.messages:
        if isinstance(message, wire.DeltaDropped):
            text = ""
        elif isinstance(message, wire.Delta):
            assert message.offset == len(text)
            text += message.text
    return text


def received_question(socket: RoomClient) -> wire.Message | None:
    try:
        return socket.next_of_kind(MessageKind.QUESTION)
    except AssertionError:
        return None


def engine_pid(server: Server, name: str) -> int:
    """Wait until a child process of the server runs the engine `name`, and return the child's
    process id."""

    def find() -> int:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().split(b"\0")
                parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
            except (OSError, IndexError):
                continue  # the process has ended
            if int(parent) == server.pid and f"prepserver.engines.{name}".encode() in line:
                return int(path.parent.name)
        return 0

    return int(eventually(find))


def test_a_recording_can_be_one_message(server: Server, speech_dir: Path) -> None:
    """A recording sent as one binary message, without `audio.start`, becomes an answer."""
    key = server.add_user()
    id = create_interview(server, key)
    wait_for_first_question(server, key, id)
    transcripts = dict(
        line.split("\t")
        for line in (speech_dir / "transcripts.tsv").read_text("utf-8").splitlines()
    )
    with open_room(room_address(server, key, id)) as socket:
        socket.send((speech_dir / "event-sourcing.wav").read_bytes())
        answer = eventually(lambda: received_answer(socket))
    assert wer(transcripts["event-sourcing"], answer.text) < 0.2


def received_answer(socket: RoomClient) -> wire.Message | None:
    try:
        return socket.next_of_kind(MessageKind.ANSWER)
    except AssertionError:
        return None


def test_no_engine_outlives_the_server(server: Server) -> None:
    """When the server is killed, its engines exit."""
    pids = [engine_pid(server, "llama"), engine_pid(server, "whisper")]
    server.kill()
    eventually(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
