"""Clients that do not read, or hardly: the server does not grow, and others do not wait.

Everybody sits in one room, where a writer corrects a long answer again and again. The same is
measured with and without the bad readers, in turns, in one run.
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

from prepserver.wire import limits
from prepserver.wire import protocol as wire
from tests.e2e.test_server import interview
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server
from tests.support.stalled_client import StalledClient

pytestmark = pytest.mark.e2e

DEAF, SLOW = 8, 8
"""Readers that read nothing, and that read a little."""
PACE = 0.02
"""Seconds between two messages to the room."""
SIP = 512
"""Bytes that a slow reader reads at once, ten times a second."""

MEMORY = 16_000_000
"""Bytes that the server may grow by."""
SLOWER = 2.0
"""How many times slower the slowest hundredth may become."""
GONE_AFTER = 40.0
"""Seconds until a peer is given up that shows no sign of life."""


class Latencies(Struct):
    """Seconds, of every message in one stretch."""

    same_room: list[float]
    """From the writer's sending to another's receiving."""
    other_room: list[float]
    """From asking for a snapshot to having it."""

    def extend(self, more: "Latencies") -> None:
        self.same_room.extend(more.same_room)
        self.other_room.extend(more.other_room)


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


class Talk:
    """A writer and a reader in the crowded room, and somebody in a room of their own."""

    def __init__(
        self, writer: RoomClient, reader: RoomClient, other: RoomClient, answer: str
    ) -> None:
        self._writer, self._reader, self._other = writer, reader, other
        self._answer = answer
        self._numbers = itertools.count()

    def listen(self, seconds: float) -> Latencies:
        """Talk at the pace and measure."""
        found = Latencies([], [])
        end = time.monotonic() + seconds
        due = time.monotonic()
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due += PACE
            text = f"{next(self._numbers)} ".ljust(limits.MAX_ANSWER, "☃")  # three bytes each
            begun = time.monotonic()
            self._writer.send(wire.MessageEdit(message_id=self._answer, text=text))
            self._reader.wait_for(lambda m, text=text: said(m) == text)  # type: ignore[misc]
            found.same_room.append(time.monotonic() - begun)
            begun = time.monotonic()
            self._other.send(wire.GetAllMessages())
            self._other.next(wire.Snapshot)
            found.other_room.append(time.monotonic() - begun)
            self._writer.wait_for(lambda m, text=text: said(m) == text)  # type: ignore[misc]
            for socket in (self._writer, self._reader, self._other):
                socket.messages.clear()
        return found


def said(message: wire.ServerMessages) -> str:
    return message.message.text if isinstance(message, wire.InterviewMessage) else ""


class Crowd:
    """Bad readers in a room, from the beginning of a `with` to its end. Each that the server sends
    away is followed by another."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._readers = [threading.Thread(target=self._hear_nothing) for _ in range(DEAF)]
        self._readers += [threading.Thread(target=self._hear_little) for _ in range(SLOW)]
        self.sent_away: list[int | None] = []
        """Close codes, as the deaf ones find them when they look at last."""

    def __enter__(self) -> Self:
        for one in self._readers:
            one.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for one in self._readers:
            one.join()

    def _hear_nothing(self) -> None:
        while not self._stop.is_set():
            with StalledClient(self._url) as one:
                while not self._stop.wait(0.1) and not one.is_reset():
                    pass
                if self._stop.is_set():
                    self.sent_away.append(one.read_close_code())

    def _hear_little(self) -> None:
        while not self._stop.is_set():
            with StalledClient(self._url) as one:
                while not self._stop.wait(0.1) and one.read(SIP):
                    pass


def memory(server: Server) -> int:
    """Resident bytes."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def connections(server: Server) -> int:
    """Established connections of the server's port, as the kernel counts them."""
    port = f":{server.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(local.endswith(port) and state == "01" for _, local, _, state, *_ in fields)


def crowded(folder: Path, stretches: int, seconds: float, *, busy: float) -> None:
    """Measure in turns without and with the crowd, `seconds` each. `busy` is what a machine that
    does something else as well may add to the slowest hundredth, in seconds."""
    alone, among = Latencies([], []), Latencies([], [])
    with Server(folder, "--rate-limit", "0") as server:
        key = server.add_user()
        id, quiet = interview(server, key), interview(server, key)
        url = server.room("interview", id, server.token(key))
        with (
            open_room(url) as writer,
            open_room(url) as reader,
            open_room(server.room("interview", quiet, server.token(key))) as other,
        ):
            other.wait_for_question()
            writer.wait_for_question()
            writer.send(wire.UserMessage(text="x", id="answer"))
            answer = writer.next_of_kind(wire.MessageKind.ANSWER).id
            writer.wait_for(
                lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE
            )
            talk = Talk(writer, reader, other, answer)
            talk.listen(1.0)  # until everything is loaded that is loaded once
            before = largest = memory(server)
            for _ in range(stretches):
                alone.extend(talk.listen(seconds))
                with Crowd(url) as crowd:
                    talk.listen(0.5)  # until everybody has come
                    among.extend(talk.listen(seconds))
                    largest = max(largest, memory(server))
                assert wire.CLOSE_SLOW in crowd.sent_away, "the readers were not slow enough"
                assert set(crowd.sent_away) <= {wire.CLOSE_SLOW, None}
        assert "Traceback" not in server.log
    grown = largest - before
    print(f"the server grew by {grown / 1e6:.1f} MB")
    for name in ("same_room", "other_room"):
        without, with_ = p99(getattr(alone, name)), p99(getattr(among, name))
        print(f"{name}: p99 {without * 1e3:.1f} ms without them, {with_ * 1e3:.1f} ms with them")
        assert with_ <= SLOWER * without + busy
    assert grown <= MEMORY


def test_bad_readers_neither_fill_the_memory_nor_slow_others_down(tmp_path: Path) -> None:
    """Eight that read nothing and eight that sip: those are told 4008, the server stays as large
    as it was, and nobody else waits for them."""
    crowded(tmp_path, 1, 6.0, busy=0.1)


@pytest.mark.chaos
@pytest.mark.time_limit(600)
def test_bad_readers_for_a_minute(tmp_path: Path) -> None:
    """The same for sixty seconds with them and sixty without, and with hardly an allowance for a
    machine that is busy: run it alone."""
    crowded(tmp_path, 3, 20.0, busy=0.005)


STOPPED = """
import os, signal, sys
from websockets.sync.client import connect
with connect(sys.stdin.readline().strip()) as connection:
    connection.recv()
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.chaos
def test_a_dead_peer_is_gone_within_forty_seconds(tmp_path: Path) -> None:
    """A socket that answers no ping and a process that was stopped are given up, in a room where
    nothing is said; a client that answers stays."""
    with Server(tmp_path) as server:
        key = server.add_user()
        url = server.room("user-interviews", "me", server.token(key))
        stopped = subprocess.Popen([sys.executable, "-c", STOPPED], stdin=subprocess.PIPE)
        assert stopped.stdin is not None
        try:
            with stopped.stdin as stdin:
                stdin.write(f"{url}\n".encode())
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
            with StalledClient(url), open_room(url) as living:
                begun = time.monotonic()
                living.next(wire.Snapshot)
                assert connections(server) == 3
                while connections(server) > 1:
                    assert time.monotonic() - begun < GONE_AFTER
                    time.sleep(0.5)
                print(f"gone after {time.monotonic() - begun:.1f} s")
                living.send(wire.GetAllMessages())
                living.next(wire.Snapshot)
        finally:
            stopped.kill()
            stopped.wait()
