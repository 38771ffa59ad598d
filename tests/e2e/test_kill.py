"""SIGKILL at random moments during interviews: acknowledged messages are stored once."""

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

from tests.support.acknowledgements import check_acknowledged, check_all_ended
from tests.support.candidates import Candidate
from tests.support.forked_server import ForkedServer
from tests.support.loop import asynchronous
from tests.support.room_client import open_room
from tests.support.server import Server

pytestmark = pytest.mark.e2e

CLIENTS = 20
EVENTS_PER_LIFE = 40
"""Mean number of events that all clients together receive from a server before it is killed. Events
are counted because the time for a given number depends on the load of the machine."""
MAX_LIFE = 1.0
"""Seconds after which a ready server is killed even if the clients have received too few events."""
JITTER = 0.01
"""Maximum number of seconds between the last counted event and the kill."""
KILLED_AT_START = 0.25
"""Probability that a server is killed during its start."""
KILLED_AT_SHUTDOWN = 0.1
"""Probability that a server receives SIGTERM before SIGKILL."""
LONGEST_WAIT = 0.25
"""Maximum number of seconds between two attempts to connect. The default backoff would outlast the
servers of this test."""
SETTLING = 60.0
"""Maximum number of seconds until every client's turn has ended, once the last server is ready."""

FLAGS = ("--rate-limit", "0", "--scripted-delay", "0.01")


class EventCounter:
    """Counter of the events that all candidates receive."""

    def __init__(self) -> None:
        self._count = 0
        self._target = 0.0
        self._reached = asyncio.Event()

    def record(self) -> None:
        self._count += 1
        if self._count >= self._target:
            self._reached.set()

    async def wait_for(self, events: float) -> None:
        """Wait for `events` more events, but for at most `MAX_LIFE` seconds."""
        self._target = self._count + events
        self._reached.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), MAX_LIFE)


async def kill_repeatedly(
    server: Server, kills: int, *, start: float, events_per_life: int, seed: int
) -> None:
    """Kill the server `kills` times during interviews, then check that acknowledged data is stored.

    `start` is the duration of a start in seconds; `events_per_life` replaces `EVENTS_PER_LIFE`.
    """
    rng = random.Random(seed)
    keys = [server.add_user(f"candidate {number}") for number in range(CLIENTS)]
    stop, events = asyncio.Event(), EventCounter()
    not_ready = 0
    async with contextlib.AsyncExitStack() as stack:
        candidates = [
            await stack.enter_async_context(
                Candidate(
                    server.url, key, seed=number, longest_wait=LONGEST_WAIT, on_event=events.record
                )
            )
            for number, key in enumerate(keys)
        ]
        async with asyncio.TaskGroup() as group:
            interviews = [group.create_task(one.hold_interviews(stop)) for one in candidates]
            await asyncio.gather(*(one.first_question.wait() for one in candidates))
            for _ in range(kills):
                if rng.random() < KILLED_AT_START:
                    await asyncio.sleep(rng.random() * start)
                else:
                    await asyncio.to_thread(server.wait_until_ready)
                    await events.wait_for(rng.expovariate(1 / events_per_life))
                    await asyncio.sleep(rng.random() * JITTER)
                if rng.random() < KILLED_AT_SHUTDOWN:
                    server.signal()
                    await asyncio.sleep(rng.random() * start)
                not_ready += not server.ready_file.exists()
                await asyncio.to_thread(server.kill)
                server.spawn()
            await asyncio.to_thread(server.wait_until_ready)
            stop.set()
            async with asyncio.timeout(SETTLING):
                await asyncio.wait(interviews)
        await check_acknowledged(server, dict(zip(keys, candidates, strict=True)))
    assert server.terminate() == 0
    check_all_ended(server)
    report(kills, not_ready, candidates)


def report(kills: int, not_ready: int, candidates: list[Candidate]) -> None:
    """Print the counts of a run, and check that answers and resumptions are frequent enough."""
    interviews = [one for candidate in candidates for one in candidate.acknowledged.values()]
    spoken, hints, edits = (
        sum(getattr(one, name) for one in interviews) for name in ("spoken", "hints", "edits")
    )
    typed = sum(len(one.answers) for one in interviews) - spoken
    connections = sum(one.connections for one in candidates)
    deleted = sum(len(one.deleted) for one in candidates)
    resumed = sum(one.resumed for one in candidates)
    print(
        f"{kills} kills, {not_ready} of them before the server was ready; "
        f"{connections} connections, {resumed} with unfinished messages; "
        f"{len(interviews)} interviews and {deleted} deleted; acknowledged: {typed} typed answers, "
        f"{spoken} spoken ones, {2 * edits} corrections, {hints} hints"
    )
    assert min(typed, spoken, resumed) > kills / 30


# --- The tests ----------------------------------------------------------------------------------


@pytest.mark.time_limit(600)
@asynchronous
async def test_acknowledged_messages_survive_150_kills(tmp_path: Path) -> None:
    """While 20 clients type, speak, edit and request hints, the server is killed 150 times: each
    acknowledged message is stored once and in order, and every turn ends."""
    with ForkedServer(tmp_path, *FLAGS) as server:
        await kill_repeatedly(server, 150, start=0.1, events_per_life=EVENTS_PER_LIFE, seed=1)


def test_a_server_killed_during_its_first_start_starts_again(tmp_path: Path) -> None:
    """A server that is killed at any of six moments during its first start can start again on the
    same data directory, and an interview can begin."""
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        server = ForkedServer(folder)
        server.spawn()
        time.sleep(number * 0.02)
        server.kill()
        with server:
            key = server.add_user()
            reply = server.request("POST", "/api/interviews", key=key, body={})
            with open_room(server.room("interview", reply.body["id"], server.token(key))) as room:
                room.wait_for_question()


@pytest.mark.chaos
@pytest.mark.time_limit(3_600)
@pytest.mark.parametrize("seed", range(2, 4))
@asynchronous
async def test_acknowledged_messages_survive_1000_kills(tmp_path: Path, seed: int) -> None:
    """When the server is started from the command line and killed 500 times, each acknowledged
    message is stored once and in order, and every turn ends."""
    with Server(tmp_path, *FLAGS) as server:
        await kill_repeatedly(
            server, 500, start=0.4, events_per_life=2 * EVENTS_PER_LIFE, seed=seed
        )
