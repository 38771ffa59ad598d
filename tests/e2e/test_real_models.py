"""Interviews on the real models: spoken, killed half-way, taken up again."""

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

from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server
from tests.support.wer import wer

pytestmark = [pytest.mark.e2e, pytest.mark.models]

EIGHT = 8

PATIENCE = 90.0
"""Real seconds, for a machine that has other things to do."""

ANSWER = (
    "I moved the ledger out of the monolith with two engineers, because it was the clearest part."
)


@pytest.fixture
def server(tmp_path: Path, models_dir: Path) -> Iterator[Server]:
    models = ("--model", "smollm2-135m-instruct", "--stt-model", "whisper-tiny.en")
    with Server(tmp_path, *models, "--models-dir", str(models_dir)) as running:
        yield running


def eventually(look: Callable[[], Any]) -> Any:
    """The first true value; raises AssertionError when none comes."""
    end = time.monotonic() + PATIENCE
    while not (value := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return value


def begin(server: Server, key: str, **spec: Any) -> str:
    spec = {"role": "Backend Engineer", "type": "technical", "questions": 3, **spec}
    reply = server.request("POST", "/api/interviews", key=key, body=spec)
    assert reply.status == 201
    return str(reply.body["id"])


def messages(server: Server, key: str, id: str) -> list[dict[str, Any]]:
    return list(server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"])


def kinds(server: Server, key: str, id: str) -> list[str]:
    return [message["kind"] for message in messages(server, key, id)]


def first_question(server: Server, key: str, id: str) -> None:
    eventually(lambda: kinds(server, key, id) == ["question"])


def room(server: Server, key: str, id: str) -> str:
    return server.room("interview", id, server.token(key))


def test_a_server_killed_while_it_generates_finishes_the_turn(server: Server) -> None:
    """kill -9 in mid-sentence; after a restart the question comes without anyone asking, and
    the command shows the whole conversation."""
    key = server.add_user()
    id = begin(server, key)
    first_question(server, key, id)
    with open_room(room(server, key, id)) as socket:
        socket.send(wire.UserMessage(id="m1", text=ANSWER))
        socket.next(wire.Accepted)
        socket.next(wire.Delta)
        server.kill()
    server.start()
    eventually(lambda: kinds(server, key, id) == ["question", "answer", "question"])
    said = messages(server, key, id)
    assert said[1]["text"] == ANSWER
    assert said[2]["text"].endswith("?")
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "prepcli", "interview", "--plain"),
            *("--id", id, "--server", server.url),
        ],
        env={**os.environ, "PREP_ACCESS_KEY": key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert shown.returncode == 0, shown.stderr
    for message in said:
        assert message["text"] in shown.stdout


@pytest.mark.parametrize("job", ["interviewer", "ears"])
def test_a_killed_engine_costs_every_interview_a_retry(
    server: Server, speech_dir: Path, job: str
) -> None:
    """kill -9 of the engine while it works for eight: each turn finishes, no text is doubled, and
    the server stays up."""
    key = server.add_user()
    ids = [begin(server, key) for _ in range(EIGHT)]
    with contextlib.ExitStack() as opened:
        sockets = []
        for id in ids:
            first_question(server, key, id)
            socket = opened.enter_context(open_room(room(server, key, id)))
            socket.next(wire.Snapshot)
            sockets.append(socket)
        for socket in sockets:
            if job == "ears":
                socket.send((speech_dir / "short-answer.wav").read_bytes())
            else:
                socket.send(wire.UserMessage(id="m1", text=ANSWER))
        if job == "ears":
            sockets[-1].wait_for(
                lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.TRANSCRIBING
            )
        else:
            sockets[0].next(wire.Delta)
        os.kill(engine(server, "whisper" if job == "ears" else "llama"), signal.SIGKILL)
        for socket in sockets:
            whole = eventually(functools.partial(question_said, socket))
            assert streamed(socket) == whole.text
    for id in ids:
        assert kinds(server, key, id) == ["question", "answer", "question"]
    assert server.request("GET", "/health/live").status == 200


def streamed(socket: RoomClient) -> str:
    """What the pieces of the question come to, each put where it says."""
    text = ""
    for message in socket.messages:
        if isinstance(message, wire.DeltaDropped):
            text = ""
        elif isinstance(message, wire.Delta):
            assert message.offset == len(text)
            text += message.text
    return text


def question_said(socket: RoomClient) -> wire.Message | None:
    try:
        return socket.next_of_kind(MessageKind.QUESTION)
    except AssertionError:
        return None


def engine(server: Server, name: str) -> int:
    """The process of an engine: a child of the server that runs its module."""

    def look() -> int:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().split(b"\0")
                parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
            except (OSError, IndexError):
                continue  # it ended while it was looked at
            if int(parent) == server.pid and f"prepserver.engines.{name}".encode() in line:
                return int(path.parent.name)
        return 0

    return int(eventually(look))


def test_a_whole_recording_in_one_message(server: Server, speech_dir: Path) -> None:
    """What a simple client does: one binary message, no audio.start."""
    key = server.add_user()
    id = begin(server, key)
    first_question(server, key, id)
    said = dict(
        line.split("\t")
        for line in (speech_dir / "transcripts.tsv").read_text("utf-8").splitlines()
    )
    with open_room(room(server, key, id)) as socket:
        socket.send((speech_dir / "event-sourcing.wav").read_bytes())
        heard = eventually(lambda: answer_said(socket))
    assert wer(said["event-sourcing"], heard.text) < 0.2


def answer_said(socket: RoomClient) -> wire.Message | None:
    try:
        return socket.next_of_kind(MessageKind.ANSWER)
    except AssertionError:
        return None


def test_no_engine_outlives_the_server(server: Server) -> None:
    """kill -9 of the server leaves no process behind that holds its memory."""
    pids = [engine(server, "llama"), engine(server, "whisper")]
    server.kill()
    eventually(lambda: not any(running(pid) for pid in pids))


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
