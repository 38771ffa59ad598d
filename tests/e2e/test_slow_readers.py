"""Effect of stalled and slow clients on the server's memory and on the latencies of other clients.

The stalled and slow clients are in a room where a writer keeps editing a long answer. Latencies in
that room and in another room are measured alternately without and with these clients.
"""

import itertools
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from msgspec import Struct

from prepserver.wire import client_messages, limits
from prepserver.wire import protocol as wire
from tests.e2e.test_server import create_interview
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server
from tests.support.stalled_client import StalledClient

pytestmark = pytest.mark.e2e

STALLED, SLOW = 8, 8
"""Number of clients that read nothing, and number of clients that read slowly."""
INTERVAL = 0.02
"""Seconds between two edits of the answer."""
SLOW_READ = 512
"""Maximum number of bytes that a slow client reads ten times per second."""

MAX_GROWTH = 16_000_000
"""Maximum growth of the server's resident memory, in bytes."""
MAX_SLOWDOWN = 2.0
"""Maximum factor by which slow clients may raise the 99th percentile of the latencies."""
DEAD_PEER_TIMEOUT = 40.0
"""Maximum number of seconds until the connection of an unresponsive client is closed."""


class Latencies(Struct):
    """Measured latencies, in seconds."""

    same_room: list[float]
    """Seconds until another client in the room receives an edit, one number for each edit."""
    other_room: list[float]
    """Seconds until a requested snapshot of another room is received, one number for each
    request."""

    def extend(self, more: "Latencies") -> None:
        self.same_room.extend(more.same_room)
        self.other_room.extend(more.other_room)


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


class LatencyProbe:
    """Probe with a writer and a reader in the crowded room, and a client in another room."""

    def __init__(
        self, writer: RoomClient, reader: RoomClient, other: RoomClient, answer: str
    ) -> None:
        self._writer, self._reader, self._other = writer, reader, other
        self._answer = answer
        self._numbers = itertools.count()

    def measure(self, seconds: float) -> Latencies:
        """Edit the answer every `INTERVAL` seconds for `seconds` seconds, and return the
        latencies."""
        found = Latencies([], [])
        end = time.monotonic() + seconds
        due = time.monotonic()
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due += INTERVAL
            text = f"{next(self._numbers)} ".ljust(limits.MAX_ANSWER, "☃")  # three bytes each
            started = time.monotonic()
            self._writer.send(client_messages.MessageEdit(message_id=self._answer, text=text))
            self._reader.wait_for(lambda m, text=text: message_text(m) == text)  # type: ignore[misc]
            found.same_room.append(time.monotonic() - started)
            started = time.monotonic()
            self._other.send(client_messages.GetAllMessages())
            self._other.next(wire.Snapshot)
            found.other_room.append(time.monotonic() - started)
            self._writer.wait_for(lambda m, text=text: message_text(m) == text)  # type: ignore[misc]
            for socket in (self._writer, self._reader, self._other):
                socket.messages.clear()
        return found


def message_text(message: wire.ServerMessages) -> str:
    return message.message.text if isinstance(message, wire.InterviewMessage) else ""


class SlowClients:
    """Stalled and slow clients in a room. Clients that the server disconnects are replaced."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._stall) for _ in range(STALLED)]
        self._threads += [threading.Thread(target=self._read_slowly) for _ in range(SLOW)]
        self.close_codes: list[int | None] = []
        """Close codes that the stalled clients read when they stop; None for a client that receives
        no close frame."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _stall(self) -> None:
        while not self._stop.is_set():
            with StalledClient(self._url) as client:
                while not self._stop.wait(0.1) and not client.is_reset():
                    pass
                if self._stop.is_set():
                    self.close_codes.append(client.read_close_code())

    def _read_slowly(self) -> None:
        while not self._stop.is_set():
            with StalledClient(self._url) as client:
                while not self._stop.wait(0.1) and client.read(SLOW_READ):
                    pass


def resident_bytes(server: Server) -> int:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def count_connections(server: Server) -> int:
    """Return the number of established TCP connections on the server's port."""
    port = f":{server.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(local.endswith(port) and state == "01" for _, local, _, state, *_ in fields)


def compare_latencies(folder: Path, rounds: int, seconds: float, *, allowance: float) -> None:
    """Check that slow clients raise memory use and latencies by no more than the limits.

    Each round measures the latencies for `seconds` seconds without slow clients, then for as long
    with slow clients. `allowance`, in seconds, is added to the maximum latency, because other work
    on the machine raises the 99th percentile.
    """
    without, with_slow = Latencies([], []), Latencies([], [])
    with Server(folder, "--rate-limit", "0") as server:
        key = server.add_user()
        id, quiet = create_interview(server, key), create_interview(server, key)
        url = server.room("interview", id, server.token(key))
        with (
            open_room(url) as writer,
            open_room(url) as reader,
            open_room(server.room("interview", quiet, server.token(key))) as other,
        ):
            other.wait_for_question()
            writer.wait_for_question()
            writer.send(client_messages.UserMessage(text="I would measure first.", id="answer"))
            answer = writer.next_of_kind(wire.MessageKind.ANSWER).id
            writer.wait_for(
                lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE
            )
            probe = LatencyProbe(writer, reader, other, answer)
            probe.measure(1.0)  # warm up
            initial = largest = resident_bytes(server)
            for _ in range(rounds):
                without.extend(probe.measure(seconds))
                with SlowClients(url) as slow:
                    probe.measure(0.5)  # until all have connected
                    with_slow.extend(probe.measure(seconds))
                    largest = max(largest, resident_bytes(server))
                assert wire.CLOSE_SLOW in slow.close_codes, "the clients were not slow enough"
                assert set(slow.close_codes) <= {wire.CLOSE_SLOW, None}
        assert "Traceback" not in server.log
    grown = largest - initial
    print(f"the server grew by {grown / 1e6:.1f} MB")
    for name in ("same_room", "other_room"):
        before, after = p99(getattr(without, name)), p99(getattr(with_slow, name))
        print(f"{name}: p99 {before * 1e3:.1f} ms without, {after * 1e3:.1f} ms with slow clients")
        assert after <= MAX_SLOWDOWN * before + allowance
    assert grown <= MAX_GROWTH


def test_slow_clients_neither_fill_the_memory_nor_slow_others_down(tmp_path: Path) -> None:
    """The server disconnects stalled clients with code 4008, the server's memory grows by at most
    16 MB, and the 99th percentile of other clients' latencies at most doubles, with an allowance of
    0.1 s."""
    compare_latencies(tmp_path, 1, 6.0, allowance=0.1)


@pytest.mark.chaos
@pytest.mark.time_limit(600)
def test_slow_clients_for_a_minute(tmp_path: Path) -> None:
    """During three periods of 20 seconds with stalled and slow clients, the server's memory grows
    by at most 16 MB, and the 99th percentile of other clients' latencies at most doubles, with an
    allowance of 5 ms."""
    compare_latencies(tmp_path, 3, 20.0, allowance=0.005)


STOPPED_CLIENT = """
import os, signal, sys
from websockets.sync.client import connect
with connect(sys.stdin.readline().strip()) as connection:
    connection.recv()
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.chaos
def test_an_unresponsive_client_is_disconnected_within_forty_seconds(tmp_path: Path) -> None:
    """In an idle room, a client that sends no pongs and a client whose process is stopped are
    disconnected within 40 seconds, and a responsive client stays connected."""
    with Server(tmp_path) as server:
        key = server.add_user()
        url = server.room("user-interviews", "me", server.token(key))
        stopped = subprocess.Popen([sys.executable, "-c", STOPPED_CLIENT], stdin=subprocess.PIPE)
        assert stopped.stdin is not None
        try:
            with stopped.stdin as stdin:
                stdin.write(f"{url}\n".encode())
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
            with StalledClient(url), open_room(url) as living:
                started = time.monotonic()
                living.next(wire.Snapshot)
                assert count_connections(server) == 3
                while count_connections(server) > 1:
                    assert time.monotonic() - started < DEAD_PEER_TIMEOUT
                    time.sleep(0.5)
                print(f"disconnected after {time.monotonic() - started:.1f} s")
                living.send(client_messages.GetAllMessages())
                living.next(wire.Snapshot)
        finally:
            stopped.kill()
            stopped.wait()
