"""kill -9 at random moments, under people who talk: what was acknowledged is there, once."""

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

from tests.support.candidates import Candidate
from tests.support.loop import asynchronous
from tests.support.promises import check_all_ended, check_promises
from tests.support.room_client import open_room
from tests.support.server import Server
from tests.support.warm import WarmServer

pytestmark = pytest.mark.e2e

CLIENTS = 20
LIFE = 40
"""Events that all clients together see of a server before it is killed, on average. Not a time,
so that as much happens on a busy machine."""
LONGEST_LIFE = 1.0
"""Seconds, at most: nothing may be happening that anybody could see."""
JITTER = 0.01
"""Seconds between an event and the kill, at most."""
STILLBIRTHS = 0.25
"""The share that is killed while it starts."""
MERCY = 0.1
"""The share that is killed while it stops, after SIGTERM."""
LONGEST_WAIT = 0.25
"""Seconds between two attempts to connect: a person's backoff is for servers that live longer."""
SETTLING = 60.0
"""Seconds, at most, from the last start until everybody has come to the end of a turn."""

FLAGS = ("--rate-limit", "0", "--scripted-delay", "0.01")


class Chatter:
    """Counts what all candidates hear."""

    def __init__(self) -> None:
        self._heard = 0
        self._enough = 0.0
        self._reached = asyncio.Event()

    def heard(self) -> None:
        self._heard += 1
        if self._heard >= self._enough:
            self._reached.set()

    async def more(self, events: float) -> None:
        """Wait until so many more were heard."""
        self._enough = self._heard + events
        self._reached.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), LONGEST_LIFE)


async def killed_again_and_again(
    server: Server, kills: int, *, start: float, life: int, seed: int
) -> None:
    """Kill the server at `kills` random moments of its life, start-up included, while candidates
    talk to it; then let it run, and compare what it kept with what it promised.

    `start` is how long a start takes, in seconds; `life` is counted like `LIFE`.
    """
    rng = random.Random(seed)
    keys = [server.add_user(f"candidate {number}") for number in range(CLIENTS)]
    stop, chatter = asyncio.Event(), Chatter()
    not_ready = 0
    async with contextlib.AsyncExitStack() as stack:
        candidates = [
            await stack.enter_async_context(
                Candidate(
                    server.url, key, seed=number, longest_wait=LONGEST_WAIT, on_event=chatter.heard
                )
            )
            for number, key in enumerate(keys)
        ]
        async with asyncio.TaskGroup() as talking:
            talks = [talking.create_task(one.hold_interviews(stop)) for one in candidates]
            await asyncio.gather(*(one.first_question.wait() for one in candidates))
            for _ in range(kills):
                if rng.random() < STILLBIRTHS:
                    await asyncio.sleep(rng.random() * start)
                else:
                    await asyncio.to_thread(server.wait_until_ready)
                    await chatter.more(rng.expovariate(1 / life))
                    await asyncio.sleep(rng.random() * JITTER)
                if rng.random() < MERCY:
                    server.signal()
                    await asyncio.sleep(rng.random() * start)
                not_ready += not server.ready_file.exists()
                await asyncio.to_thread(server.kill)
                server.spawn()
            await asyncio.to_thread(server.wait_until_ready)
            stop.set()
            async with asyncio.timeout(SETTLING):
                await asyncio.wait(talks)
        await check_promises(server, dict(zip(keys, candidates, strict=True)))
    assert server.terminate() == 0
    check_all_ended(server)
    report(kills, not_ready, candidates)


def report(kills: int, not_ready: int, candidates: list[Candidate]) -> None:
    """How much the run has seen; and that it was worth it."""
    promised = [one for candidate in candidates for one in candidate.promised.values()]
    spoken, hints, edits = (
        sum(getattr(one, what) for one in promised) for what in ("spoken", "hints", "edits")
    )
    typed = sum(len(one.answers) for one in promised) - spoken
    connections = sum(one.connections for one in candidates)
    deleted = sum(len(one.deleted) for one in candidates)
    resumed = sum(one.resumed for one in candidates)
    print(
        f"{kills} kills, {not_ready} of them before the server was ready; "
        f"{connections} connections, {resumed} with something unfinished; "
        f"{len(promised)} interviews and {deleted} deleted; acknowledged: {typed} typed answers, "
        f"{spoken} spoken ones, {2 * edits} corrections, {hints} hints"
    )
    assert min(typed, spoken, resumed) > kills / 30


# --- The tests ----------------------------------------------------------------------------------


@pytest.mark.time_limit(600)
@asynchronous
async def test_300_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """20 clients type, speak, correct and ask for hints; each message that was acknowledged is
    there once, in order; every turn comes to its end."""
    with WarmServer(tmp_path, *FLAGS) as server:
        await killed_again_and_again(server, 300, start=0.1, life=LIFE, seed=1)


def test_a_server_that_is_killed_in_its_first_start_starts_again(tmp_path: Path) -> None:
    """At six moments of making a data directory: the next start takes what is there, and a
    user, an interview and a token are made in it."""
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        server = WarmServer(folder)
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
async def test_1000_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """The same at length, each server started from the command line and living longer."""
    with Server(tmp_path, *FLAGS) as server:
        await killed_again_and_again(server, 500, start=0.4, life=2 * LIFE, seed=seed)
