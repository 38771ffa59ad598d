"""kill -9 at random moments, under people who talk: what was acknowledged is there, once."""

import asyncio
import contextlib
import random
import time
from pathlib import Path

import apsw
import pytest

from prepcli.client.rest import Rest
from prepserver.protocol import Interview, Message, MessageKind, Status
from tests.support.candidates import Candidate, Promised
from tests.support.loop import asynchronous
from tests.support.server import Server
from tests.support.warm import WarmServer

pytestmark = pytest.mark.e2e

CLIENTS = 20
LIFE = 0.15
"""Seconds that a server serves before it is killed, on average."""
STILLBIRTHS = 0.25
"""The share that is killed while it starts."""
REPAIR = 15.0
"""Seconds until an alarm has mended what a crash cut off between two objects; it is due after 5."""
SETTLING = 60.0
"""Seconds, at most, from the last start until everybody has come to the end of a turn."""

FLAGS = ("--rate-limit", "0", "--scripted-delay", "0.01")


async def killed_again_and_again(
    server: Server, kills: int, *, start: float, life: float, seed: int
) -> None:
    """Kill the server at `kills` random moments of its life, start-up included, while candidates
    talk to it; then let it run, and compare what it kept with what it promised.

    `start` is how long a start takes, `life` the average time from there to a kill, in seconds.
    """
    rng = random.Random(seed)
    keys = [server.add_user(f"candidate {number}") for number in range(CLIENTS)]
    stop = asyncio.Event()
    not_ready = 0
    async with contextlib.AsyncExitStack() as stack:
        candidates = [
            await stack.enter_async_context(Candidate(server.url, key, seed=number))
            for number, key in enumerate(keys)
        ]
        async with asyncio.TaskGroup() as talking:
            talks = [talking.create_task(one.hold_interviews(stop)) for one in candidates]
            await asyncio.gather(*(one.begun.wait() for one in candidates))
            for _ in range(kills):
                if rng.random() < STILLBIRTHS:
                    await asyncio.sleep(rng.random() * start)
                else:
                    await asyncio.to_thread(server.wait_until_ready)
                    await asyncio.sleep(rng.expovariate(1 / life))
                not_ready += not server.ready_file.exists()
                await asyncio.to_thread(server.kill)
                server.spawn()
            await asyncio.to_thread(server.wait_until_ready)
            stop.set()
            async with asyncio.timeout(SETTLING):
                await asyncio.wait(talks)
        for key, one in zip(keys, candidates, strict=True):
            await compared(server, key, one.promised)
    assert server.terminate() == 0
    every_turn_has_ended(server)
    report(kills, not_ready, candidates)


async def compared(server: Server, key: str, promised: dict[str, Promised]) -> None:
    """Everything one candidate was promised is on the server, once and in order, and nothing
    else; and their own client has seen the same."""
    async with Rest(server.url, key) as rest:
        until = time.monotonic() + REPAIR
        while True:
            listed = await rest.list()
            said = {one.id: await rest.messages(one.id) for one in listed}
            # An interview that was created while the server died, and one whose news for the list
            # were cut off, are taken up again by an alarm.
            if all(_settled(one, said[one.id]) for one in listed) or time.monotonic() > until:
                break
            await asyncio.sleep(0.2)
    assert promised.keys() <= said.keys()
    for interview in listed:
        whole(interview, said[interview.id], promised.get(interview.id))


def _settled(interview: Interview, said: list[Message]) -> bool:
    answers = sum(one.kind is MessageKind.ANSWER for one in said)
    return bool(said) and interview.answered == answers


def whole(interview: Interview, said: list[Message], promised: Promised | None) -> None:
    """What was promised of one interview, and nothing else. None is promised of one whose id
    never reached its candidate."""
    answers = [one.text for one in said if one.kind is MessageKind.ANSWER]
    if promised is None:
        assert answers == []
    else:
        assert answers == promised.answers
        assert tuple(said) == promised.seen, "the client saw something else"
    assert [one.position for one in said] == list(range(len(said)))
    assert interview.answered == len(answers), "the list knows of every answer"
    kinds = [one.kind for one in said if one.kind is not MessageKind.HINT]
    talk = [MessageKind.QUESTION, MessageKind.ANSWER] * len(answers)
    if interview.status is Status.COMPLETED:
        assert kinds == [*talk, MessageKind.CLOSING, MessageKind.SUMMARY]
    else:
        assert kinds == [*talk, MessageKind.QUESTION]


def every_turn_has_ended(server: Server) -> None:
    """Seen in the files of a server that has stopped: they are whole, and nothing waits in them."""
    for path in (server.data_dir / "objects").rglob("*.sqlite"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            assert connection.pragma("integrity_check") == "ok", path
            if path.parent.parent.name == "interview":
                states = connection.execute("SELECT DISTINCT state FROM turns").fetchall()
                assert states == [("done",)], path
                assert connection.execute("SELECT count(*) FROM recordings").get == 0, path
        finally:
            connection.close()


def report(kills: int, not_ready: int, candidates: list[Candidate]) -> None:
    """How much the run has seen; and that it was worth it."""
    promised = [one for candidate in candidates for one in candidate.promised.values()]
    spoken, hints, edits = (
        sum(getattr(one, what) for one in promised) for what in ("spoken", "hints", "edits")
    )
    typed = sum(len(one.answers) for one in promised) - spoken
    connections = sum(one.connections for one in candidates)
    resumed = sum(one.resumed for one in candidates)
    print(
        f"{kills} kills, {not_ready} of them before the server was ready; "
        f"{connections} connections, {resumed} with something unfinished; "
        f"{len(promised)} interviews; acknowledged: {typed} typed answers, {spoken} spoken ones, "
        f"{2 * edits} corrections, {hints} hints"
    )
    assert min(typed, spoken, resumed) > kills / 5


# --- The tests ----------------------------------------------------------------------------------


@asynchronous
async def test_300_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """20 clients type, speak, correct and ask for hints; each message that was acknowledged is
    there once, in order; every turn comes to its end."""
    with WarmServer(tmp_path, *FLAGS) as server:
        await killed_again_and_again(server, 300, start=0.1, life=LIFE, seed=1)


@pytest.mark.chaos
@pytest.mark.time_limit(3_600)
@pytest.mark.parametrize("seed", range(2, 4))
@asynchronous
async def test_1000_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """The same at length, each server started from the command line and living longer."""
    with Server(tmp_path, *FLAGS) as server:
        await killed_again_and_again(server, 500, start=0.4, life=0.3, seed=seed)
