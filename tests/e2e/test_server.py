"""A server's life as a process: ready, stopping, crashing, refusing to start twice."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from prepserver.accounts.tokens import Tokens, load_signing_key
from prepserver.app import VERSION
from prepserver.clock import SystemClock
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from tests.support.room_client import RoomClient, open_room, rejected_handshake
from tests.support.server import Process, Server
from tests.support.warm import WarmServer

pytestmark = pytest.mark.e2e


def eventually(condition: Callable[[], bool], *, limit: float = 30.0) -> None:
    """Wait until it holds; at most `limit` real seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def interview(server: Server, key: str, **spec: object) -> str:
    """The id of a new interview."""
    return str(server.request("POST", "/api/interviews", key=key, body=spec).body["id"])


def kinds(server: Server, key: str, id: str) -> list[str]:
    """What was said so far, by kind."""
    reply = server.request("GET", f"/api/interviews/{id}/messages", key=key)
    return [message["kind"] for message in reply.body["messages"]]


def failure_of(process: Process) -> int:
    """The exit code of a server that does not start."""
    try:
        return process.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


# --- Ready and stopping -------------------------------------------------------------------------


def test_the_ready_file_appears_whole_and_goes_with_the_server(tmp_path: Path) -> None:
    """Whoever reads it, however early, reads all of it, and the server accepts connections."""
    server = Server(tmp_path)
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.append(server.ready_file.read_text())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with server:
            ready = json.loads(server.ready_file.read_text())
            assert ready == {"url": server.url, "pid": server.pid, "version": VERSION}
            assert server.request("GET", "/health/live").status == 200
            assert server.terminate() == 0
            assert not server.ready_file.exists()
    finally:
        stop.set()
        watching.join()
    assert seen
    assert {text.strip() for text in seen} == {json.dumps(ready)}
    assert [path.name for path in tmp_path.iterdir() if "ready" in path.name] == []


def test_sigterm_drains_and_exits_0_with_clients_connected(tmp_path: Path) -> None:
    """Within ten seconds, whatever is going on, and each socket is told to come back."""
    with Server(tmp_path, "--scripted-delay", "0.5") as server, contextlib.ExitStack() as stack:
        key = server.add_user()
        id = interview(server, key)
        addresses = [
            server.room("interview", id, server.token(key)),
            server.room("user-interviews", "me", server.token(key)),
        ]
        sockets = [stack.enter_context(open_room(url)) for url in addresses * 2]
        for one in sockets:
            one.next(wire.Snapshot)
        sockets[0].wait_for(lambda m: isinstance(m, wire.Delta))
        begun = time.monotonic()
        assert server.terminate(limit=10) == 0
        assert time.monotonic() - begun < 10
        assert [one.wait_for_close() for one in sockets] == [wire.CLOSE_RESTART] * 4
        assert "Traceback" not in server.log
        assert "error" not in server.log


def test_sigterm_exits_0_with_a_client_that_reads_nothing(tmp_path: Path) -> None:
    """One dead peer does not keep the server from ending in time."""
    with Server(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as dead:
        dead.sendall(b"GET /health/live HTTP/1.1\r\n")
        time.sleep(0.2)
        assert server.terminate(limit=10) == 0


# --- Refusing to start --------------------------------------------------------------------------


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """It names the process that is there, exits 1, and leaves that one and its files alone."""
    with Server(tmp_path) as server:
        second = server.launch("--port", "0", "--ready-file", str(server.ready_file))
        assert failure_of(second) == 1
        assert f"process {server.pid}" in server.log
        assert "Traceback" not in server.log
        assert server.ready_file.exists()
        assert server.request("GET", "/health/live").status == 200


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        ("somebody else's", True),
        ('{"pid": "none"}', True),
        ("[]", True),
        (json.dumps({"pid": os.getpid()}), True),
        (json.dumps({"pid": 2**22 + 1}), False),
    ],
)
def test_a_port_that_is_taken_is_told_in_a_sentence(
    tmp_path: Path, content: str, stays: bool
) -> None:
    """Exit code 1 and what to do. The ready file of another server stays, but not that of one
    that was killed: whoever waits for this one must not connect there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = WarmServer(tmp_path)
        server.ready_file.write_text(content)
        process = server.launch("--port", str(port), "--ready-file", str(server.ready_file))
        assert failure_of(process) == 1
        assert f"port {port} of 127.0.0.1" in server.log
        assert "--port" in server.log
        assert "Traceback" not in server.log
        assert server.ready_file.exists() == stays


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--port", "99999"), "from --port"),
        (("--rate-limit", "-1"), "from --rate-limit"),
        (("--data-dir", "/dev/null/data"), "/dev/null/data"),
    ],
)
def test_a_wrong_setting_exits_2(tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    """With one sentence that names it."""
    server = Server(tmp_path)
    assert failure_of(server.launch(*args)) == 2
    assert says in server.log
    assert "Traceback" not in server.log


# --- Crashing -----------------------------------------------------------------------------------


def test_a_turn_killed_in_the_middle_is_finished_without_anyone_asking(tmp_path: Path) -> None:
    """Killed while the model speaks, started again, watched over REST alone: no client joins."""
    with Server(tmp_path, "--scripted-delay", "0.3") as server:
        key = server.add_user()
        id = interview(server, key, questions=2)
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.wait_for_question()
            room.send(wire.UserMessage(text="I would measure first.", id="answer-1"))
            room.next(wire.Accepted)
            room.wait_for(lambda m: isinstance(m, wire.Delta))
            server.kill()
        used = server.add_user("observer")  # the data is whole: users can still be added
        server.start()
        eventually(lambda: kinds(server, key, id) == ["question", "answer", "question"])
        assert server.request("GET", "/api/ratelimit", key=used).status == 200
        quota = server.request("GET", "/api/ratelimit", key=key).body
        assert quota["limit"] - quota["remaining"] == 3, "the turn was charged once"
        with open_room(server.room("interview", id, server.token(key))) as room:
            snapshot = room.next(wire.Snapshot)
            assert snapshot.failed is None
            assert snapshot.messages[1].text == "I would measure first."
            room.send(wire.UserMessage(text="I would measure first.", id="answer-1"))
            room.next(wire.Accepted)
            room.send(wire.GetAllMessages())
            assert len(room.next(wire.Snapshot).messages) == 3, "the resend is not applied again"


def test_an_interview_killed_at_its_creation_comes_to_its_first_question(tmp_path: Path) -> None:
    """What the client was told exists goes on after the crash."""
    with Server(tmp_path, "--scripted-delay", "0.3") as server:
        key = server.add_user()
        id = interview(server, key)
        server.kill()
        server.start()
        eventually(lambda: kinds(server, key, id) == ["question"])


def test_a_recording_that_was_acknowledged_survives_a_crash(tmp_path: Path) -> None:
    """The client sends on from the acknowledged frame, to the next process."""
    size = wire.BYTES_PER_SECOND // 25
    frames = [codec.pack_frame(n, b"\x00\x10\x00\xf0" * (size // 4)) for n in range(75)]
    with Server(tmp_path) as server:
        key = server.add_user()
        id = interview(server, key)
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.wait_for_question()
            room.send(wire.AudioStart(id="r"))
            for frame in frames[:50]:
                room.send(frame)
            while (acknowledged := room.next(wire.AudioAck).frame) < 30:
                pass
            server.kill()
        server.start()
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.next(wire.Snapshot)
            room.send(wire.AudioStart(id="r"))
            stored = room.next(wire.AudioAck).frame
            assert stored >= acknowledged
            for frame in frames[stored + 1 :]:
                room.send(frame)
            room.send(wire.AudioStop(id="r", frames=len(frames)))
            assert "3.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_second_client_sees_the_state_and_the_text_so_far(tmp_path: Path) -> None:
    """Whoever joins while the model speaks misses nothing: the snapshot has the beginning, the
    deltas go on exactly there."""
    with Server(tmp_path, "--scripted-delay", "0.2") as server:
        key = server.add_user()
        id = interview(server, key)
        url = server.room("interview", id, server.token(key))
        with open_room(url) as first:
            first.wait_for(lambda m: isinstance(m, wire.Delta) and m.offset > 0)
            with open_room(url) as second:
                snapshot = second.next(wire.Snapshot)
                assert snapshot.state is wire.Phase.GENERATING
                assert snapshot.streaming is not None
                text = snapshot.streaming.text
                assert text
                assert snapshot.streaming.offset == len(text)
                whole = second.next_of_kind(wire.MessageKind.QUESTION)
                assert whole.id == snapshot.streaming.id
                for message in second.messages:
                    if isinstance(message, wire.Delta):
                        assert message.offset == len(text)
                        text += message.text
                assert text == whole.text


# --- What is never written down -----------------------------------------------------------------


def test_no_key_and_no_token_is_in_the_log_or_on_the_disk(tmp_path: Path) -> None:
    """Not after accepted and refused handshakes, good and bad requests, errors and a stop, with
    everything logged; and no command line has one."""
    with Server(tmp_path, "--log-level", "debug") as server:
        key = server.add_user()
        token = server.token(key)
        forged = Tokens(b"x" * 32, SystemClock()).issue("u").token
        id = interview(server, key)
        with open_room(server.room("interview", id, token)) as room:
            room.wait_for_question()
            room.send("{")
            room.next(wire.Failure)
            room.send("x" * 100_000)
            room.wait_for_close()
        assert rejected_handshake(server.room("interview", id, forged)).status == 401
        assert rejected_handshake(server.room("interview", "unknown", token)).status == 404
        assert rejected_handshake(server.room("interview", id, key)).status == 401
        for path in (f"/nothing?token={token}", f"/parties/x/y?token={token}", "/auth/token"):
            server.request("GET", path, key=forged)
        server.request("POST", "/api/interviews", key=key, data=b"{")
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        secret = load_signing_key(server.data_dir / "signing.key")
        assert server.terminate() == 0
        written = server.log.encode() + command
        for file in server.data_dir.rglob("*"):
            if file.is_file() and file.name != "signing.key":
                written += file.read_bytes()
        assert "server.ready" in server.log
        for word in (key, key.rpartition("_")[2], token, token.rpartition(".")[2], forged):
            assert word.encode() not in written
        assert secret not in written
        assert secret.hex().encode() not in written


def test_a_flood_from_one_client_does_not_stop_another(tmp_path: Path) -> None:
    """One socket sends as fast as it can; beside it an interview takes its course."""
    with Server(tmp_path) as server:
        key, other = server.add_user("flood"), server.add_user("calm")
        flooded, calm = interview(server, key), interview(server, other)
        stop = threading.Event()

        def flood(room: RoomClient) -> None:
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):
                while not stop.is_set():
                    room.send(wire.GetAllMessages())

        with (
            open_room(server.room("interview", flooded, server.token(key))) as loud,
            open_room(server.room("interview", calm, server.token(other))) as room,
        ):
            flooding = threading.Thread(target=flood, args=(loud,))
            flooding.start()
            try:
                room.wait_for_question()
                room.send(wire.UserMessage(text="I stay calm.", id="1"))
                room.next_of_kind(wire.MessageKind.QUESTION)
                assert _memory(server.pid) < 400_000_000
            finally:
                stop.set()
                loud.connection.socket.shutdown(socket.SHUT_RDWR)
                flooding.join()


def _memory(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
