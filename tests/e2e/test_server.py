"""Server process: start, shutdown, invalid settings, crashes and secrets."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from prepserver.accounts.tokens import Tokens, load_signing_key
from prepserver.app import VERSION
from prepserver.clock import SystemClock
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from tests.support.forked_server import ForkedServer
from tests.support.room_client import RoomClient, open_room, rejected_handshake
from tests.support.server import Process, Server

pytestmark = pytest.mark.e2e


def eventually(condition: Callable[[], bool], *, timeout: float = 30.0) -> None:
    """Wait until `condition` returns True, for at most `timeout` real seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def create_interview(server: Server, key: str, **spec: object) -> str:
    """Create an interview and return its id."""
    return str(server.request("POST", "/api/interviews", key=key, body=spec).body["id"])


def kinds(server: Server, key: str, id: str) -> list[str]:
    """Return the kinds of the messages in an interview."""
    reply = server.request("GET", f"/api/interviews/{id}/messages", key=key)
    return [message["kind"] for message in reply.body["messages"]]


def wait_for_exit(process: Process) -> int:
    """Wait until a server that cannot start has exited, and return its exit code."""
    try:
        return process.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


# --- Start and shutdown -------------------------------------------------------------------------


def test_the_ready_file_exists_while_the_server_accepts_connections(tmp_path: Path) -> None:
    """The ready file is complete whenever it exists, and the server removes it at shutdown."""
    server = Server(tmp_path)
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.append(server.ready_file.read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with server:
            ready = json.loads(server.ready_file.read_text())
            assert ready == {"url": server.url, "pid": server.pid, "version": VERSION}
            assert server.request("GET", "/health/live").status == 200
            assert server.terminate() == 0
            assert not server.ready_file.exists()
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert {text.strip() for text in seen} == {json.dumps(ready)}
    assert [path.name for path in tmp_path.iterdir() if "ready" in path.name] == []


def test_a_server_with_a_lease_ends_after_its_last_client(tmp_path: Path) -> None:
    """A server with a lease file stays while any process holds a shared lock on the file, then ends
    with exit code 0 and lets no new client take a lock until it has ended."""
    lease = tmp_path / "lease"
    with lease.open("w") as first, lease.open("w") as second, lease.open("w") as late:
        fcntl.flock(first, fcntl.LOCK_SH)
        fcntl.flock(second, fcntl.LOCK_SH)
        with Server(tmp_path, "--lease-file", str(lease)) as server:
            first.close()
            assert server.request("GET", "/health/live").status == 200
            second.close()
            assert server.wait(20.0) == 0
            fcntl.flock(late, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert "event=server.unused" in server.log


def test_each_start_issues_a_new_key(tmp_path: Path) -> None:
    """With `--issue-key`, only the owner can read the ready file, its key works, and the next start
    revokes it."""
    server = Server(tmp_path, "--issue-key", "local")
    keys = []
    for _ in range(2):
        with server:
            assert server.ready_file.stat().st_mode & 0o777 == 0o600
            keys.append(json.loads(server.ready_file.read_text())["key"])
            assert server.request("GET", "/api/interviews", key=keys[-1]).status == 200
            assert server.request("GET", "/api/interviews", key=keys[0]).status == (
                200 if len(keys) == 1 else 401
            )


def test_interviews_are_not_read_beside_a_server(tmp_path: Path) -> None:
    """`prep-server interviews` fails while a server is using the data directory."""
    with Server(tmp_path) as server:
        command = [sys.executable, "-m", "prepserver", "interviews", "--user", "ada"]
        done = subprocess.run(
            [*command, "--data-dir", str(server.data_dir)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"process {server.pid}" in done.stderr


def test_sigterm_ends_a_server_with_connected_clients(tmp_path: Path) -> None:
    """After SIGTERM during a turn, the server closes all connections with code 1012 and exits with
    code 0 within ten seconds."""
    with Server(tmp_path, "--scripted-delay", "0.5") as server, contextlib.ExitStack() as stack:
        key = server.add_user()
        id = create_interview(server, key, language="de")  # the model writes each question
        addresses = [
            server.room("interview", id, server.token(key)),
            server.room("user-interviews", "me", server.token(key)),
        ]
        sockets = [stack.enter_context(open_room(url)) for url in addresses * 2]
        for room in sockets:
            room.next(wire.Snapshot)
        sockets[0].wait_for(lambda m: isinstance(m, wire.Delta))
        started = time.monotonic()
        assert server.terminate(limit=10) == 0
        assert time.monotonic() - started < 10
        assert [room.wait_for_close() for room in sockets] == [wire.CLOSE_RESTART] * 4
        assert "Traceback" not in server.log
        assert "error" not in server.log


def test_sigterm_ends_a_server_with_an_unfinished_request(tmp_path: Path) -> None:
    """A client that never completes its request does not keep the server from exiting within ten
    seconds after SIGTERM."""
    with Server(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as dead:
        dead.sendall(b"GET /health/live HTTP/1.1\r\n")
        time.sleep(0.2)
        assert server.terminate(limit=10) == 0


# --- Failed starts ------------------------------------------------------------------------------


def test_a_second_server_on_the_same_data_directory_exits(tmp_path: Path) -> None:
    """A second server on the data directory of a running server exits with code 1 and names the
    running server's process; the running server and its ready file are not affected."""
    with Server(tmp_path) as server:
        second = server.launch("--port", "0", "--ready-file", str(server.ready_file))
        assert wait_for_exit(second) == 1
        assert f"process {server.pid}" in server.log
        assert "Traceback" not in server.log
        assert server.ready_file.exists()
        assert server.request("GET", "/health/live").status == 200


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        ("not JSON", True),
        ('{"pid": "none"}', True),
        ("[]", True),
        (json.dumps({"pid": os.getpid()}), True),
        (json.dumps({"pid": 2**22 + 1}), False),
    ],
    ids=["no JSON", "no number", "no object", "running", "ended"],
)
def test_a_server_exits_if_its_port_is_in_use(tmp_path: Path, content: str, stays: bool) -> None:
    """If its port is in use, the server exits with code 1, names the option `--port`, and removes
    the ready file only if that file names a process that no longer exists."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = ForkedServer(tmp_path)
        server.ready_file.write_text(content)
        process = server.launch("--port", str(port), "--ready-file", str(server.ready_file))
        assert wait_for_exit(process) == 1
        assert f"127.0.0.1, port {port}" in server.log
        assert "--port" in server.log
        assert "Traceback" not in server.log
        assert server.ready_file.exists() == stays


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--port", "99999"), "from --port"),
        (("--rate-limit", "-1"), "from --rate-limit"),
        (("--data-dir", "/dev/null/data"), "/dev/null/data"),
    ],
)
def test_an_invalid_setting_exits_with_2(tmp_path: Path, args: tuple[str, ...], named: str) -> None:
    """If a setting is invalid, the server exits with code 2, and the error names the setting or its
    value."""
    server = Server(tmp_path)
    assert wait_for_exit(server.launch(*args)) == 2
    assert named in server.log
    assert "Traceback" not in server.log


# --- Crashes ------------------------------------------------------------------------------------


def test_a_turn_interrupted_by_a_kill_is_finished_without_a_client(tmp_path: Path) -> None:
    """If the server is killed during a reply, the restarted server finishes the turn before a
    client connects, and the turn is charged once."""
    with Server(tmp_path, "--scripted-delay", "0.3") as server:
        key = server.add_user()
        id = create_interview(server, key, questions=2)
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.wait_for_question()
            room.send(client_messages.UserMessage(text="I would measure first.", id="answer-1"))
            room.next(wire.Accepted)
            room.wait_for(lambda m: isinstance(m, wire.Delta))
            server.kill()
        used = server.add_user("observer")  # the database is intact
        server.start()
        eventually(lambda: kinds(server, key, id) == ["question", "answer", "question"])
        assert server.request("GET", "/api/ratelimit", key=used).status == 200
        quota = server.request("GET", "/api/ratelimit", key=key).body
        assert quota["limit"] - quota["remaining"] == 1, "the turn was charged once"
        with open_room(server.room("interview", id, server.token(key))) as room:
            snapshot = room.next(wire.Snapshot)
            assert snapshot.failed is None
            assert snapshot.messages[1].text == "I would measure first."
            room.send(client_messages.UserMessage(text="I would measure first.", id="answer-1"))
            room.next(wire.Accepted)
            room.send(client_messages.GetAllMessages())
            assert len(room.next(wire.Snapshot).messages) == 3, "the resend is not applied again"


def test_a_new_interview_begins_after_a_kill(tmp_path: Path) -> None:
    """If the server is killed after it has acknowledged a new interview, the first question is
    asked after the restart."""
    with Server(tmp_path, "--scripted-delay", "0.3") as server:
        key = server.add_user()
        id = create_interview(server, key)
        server.kill()
        server.start()
        eventually(lambda: kinds(server, key, id) == ["question"])


def test_an_acknowledged_recording_survives_a_crash(tmp_path: Path) -> None:
    """If the server is killed during a recording, the recording continues after the restart with
    the first frame that was not stored, and the answer covers all frames."""
    size = wire.BYTES_PER_SECOND // 25
    frames = [codec.pack_frame(n, b"\x00\x10\x00\xf0" * (size // 4)) for n in range(75)]
    with Server(tmp_path) as server:
        key = server.add_user()
        id = create_interview(server, key)
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.wait_for_question()
            room.send(client_messages.AudioStart(id="r"))
            for frame in frames[:50]:
                room.send(frame)
            while (acknowledged := room.next(wire.AudioAck).frame) < 30:
                pass
            server.kill()
        server.start()
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.next(wire.Snapshot)
            room.send(client_messages.AudioStart(id="r"))
            stored = room.next(wire.AudioAck).frame
            assert stored >= acknowledged
            for frame in frames[stored + 1 :]:
                room.send(frame)
            room.send(client_messages.AudioStop(id="r", frames=len(frames)))
            assert "3.0 seconds" in room.next_of_kind(wire.MessageKind.ANSWER).text


def test_a_second_client_receives_the_partial_reply(tmp_path: Path) -> None:
    """A client that joins during a reply receives a snapshot with the text so far, then the deltas
    that continue that text."""
    with Server(tmp_path, "--scripted-delay", "0.2") as server:
        key = server.add_user()
        id = create_interview(server, key, language="de")  # the model writes each question
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


# --- Secrets and load ---------------------------------------------------------------------------


def test_keys_and_tokens_reach_neither_log_nor_disk_nor_command_line(tmp_path: Path) -> None:
    """At the log level `debug`, valid and invalid handshakes and requests leave no secret in the
    log, on the command line or in any file of the data directory except `signing.key`."""
    with Server(tmp_path, "--log-level", "debug") as server:
        key = server.add_user()
        token = server.token(key)
        forged = Tokens(b"x" * 32, SystemClock()).issue("u").token
        id = create_interview(server, key)
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


def test_a_flood_from_one_client_does_not_block_another(tmp_path: Path) -> None:
    """While a client floods one room with messages, an interview in another room continues, and the
    server's memory stays below 400 MB."""
    with Server(tmp_path) as server:
        key, other = server.add_user("flood"), server.add_user("calm")
        flooded, calm = create_interview(server, key), create_interview(server, other)
        stop = threading.Event()

        def flood(room: RoomClient) -> None:
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):
                while not stop.is_set():
                    room.send(client_messages.GetAllMessages())

        with (
            open_room(server.room("interview", flooded, server.token(key))) as loud,
            open_room(server.room("interview", calm, server.token(other))) as room,
        ):
            flooder = threading.Thread(target=flood, args=(loud,))
            flooder.start()
            try:
                room.wait_for_question()
                room.send(client_messages.UserMessage(text="I stay calm.", id="1"))
                room.next_of_kind(wire.MessageKind.QUESTION)
                assert _resident_bytes(server.pid) < 400_000_000
            finally:
                stop.set()
                loud.connection.socket.shutdown(socket.SHUT_RDWR)
                flooder.join()


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
