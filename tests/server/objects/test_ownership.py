"""Exclusive ownership: one instance for each object, one process for each data directory."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prepserver.objects.object import Context
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.contender import Tally
from tests.support.loop import asynchronous
from tests.support.objects import call_to, start_registry

RACES = 500
RELEASES = 100


class Contender:
    """Process that competes for the data directory on command."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.contender", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def send(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    def request(self, word: str) -> dict[str, Any]:
        self.send(word)
        return self.receive()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def contenders(folder: Path, number: int = 2) -> Iterator[list[Contender]]:
    started = [Contender(folder) for _ in range(number)]
    try:
        yield started
    finally:
        for one in started:
            one.kill()


# --- Two processes ------------------------------------------------------------------------------


@pytest.mark.e2e
def test_one_of_two_processes_owns_the_directory(
    tmp_path: Path,
) -> None:
    """In each of 500 races, one process takes the data directory, and the other process receives an
    error that names the owner's pid."""
    rng = random.Random(3)
    owners = []
    with contenders(tmp_path) as processes:
        for race in range(RACES):
            rng.shuffle(processes)
            for one in processes:
                one.send("take")
            answers = [one.receive() for one in processes]
            [owner] = [
                one for one, reply in zip(processes, answers, strict=True) if "code" not in reply
            ]
            [rejected] = [reply for reply in answers if "code" in reply]
            assert rejected["code"] == ErrorCode.DATA_DIR_IN_USE
            assert f"(process {owner.pid})" in rejected["message"]
            assert owner.request("call")["count"] == race + 1
            owner.request("drop")
            owners.append(owner.pid)
    assert len(set(owners)) == 2, "one process won every race"


def test_ownership_passes_from_one_process_to_the_next(tmp_path: Path) -> None:
    """A process that tries to take the data directory while another process is releasing it either
    fails or becomes the only owner, and no count is lost."""
    counted = 0
    with contenders(tmp_path) as processes:
        owner, other = processes
        owner.request("take")
        for _ in range(RACES // 5):
            owner.send("drop")
            other.send("take")
            owner.receive()
            while "code" in (reply := other.receive()):
                assert f"(process {owner.pid})" in reply["message"]
                other.send("take")
            counted += 1
            assert other.request("call")["count"] == counted
            owner, other = other, owner


def test_a_killed_owner_is_replaced_at_once(tmp_path: Path) -> None:
    """When the owner of a data directory is killed, another process can take the directory at
    once."""
    for killed in range(5):
        with contenders(tmp_path) as (owner, other):
            assert "code" not in owner.request("take")
            assert "code" in other.request("take")
            assert owner.request("call")["count"] == killed * 2 + 1
            owner.kill()
            (tmp_path / "owned").unlink()
            assert "code" not in other.request("take")
            assert other.request("call")["count"] == killed * 2 + 2
            other.request("drop")


# --- Two activations ----------------------------------------------------------------------------


class Counted(Tally):
    """Tally that also counts the instances built for each object."""

    built: dict[str, int]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        Counted.built[context.name] = Counted.built.get(context.name, 0) + 1


@pytest.fixture(autouse=True)
def _reset_built() -> None:
    Counted.built = {}


@asynchronous
async def test_concurrent_calls_build_one_instance(tmp_path: Path) -> None:
    """Eight concurrent calls to an object that is not in memory build one instance."""
    clock = ManualClock()
    names = [f"o{number}" for number in range(RACES // 10)]
    async with start_registry(tmp_path, Counted, clock=clock) as registry:
        for round in range(10):
            methods = [Counted.add, *[Counted.count] * 7]
            calls = [
                registry.call(call_to(Counted, name, method))
                for name in names
                for method in methods
            ]
            assert set(await asyncio.gather(*calls)) == {round + 1}
            assert Counted.built == dict.fromkeys(names, round + 1)
            await clock.advance(12)


@asynchronous
async def test_a_call_during_the_release_loses_no_count(tmp_path: Path) -> None:
    """A call that arrives before, during or after an object's release finds every count that was
    stored earlier."""
    clock = ManualClock()
    rng = random.Random(5)
    counted = 0
    async with start_registry(tmp_path, Counted, clock=clock) as registry:
        for _ in range(RELEASES):
            await clock.advance(10.5)
            # Idle objects are released at each full second: call before, during and after it.
            ending = asyncio.create_task(clock.advance(1))
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            calls = [registry.call(call_to(Counted, "a", Counted.add)) for _ in range(2)]
            assert await asyncio.gather(*calls) == [counted + 1, counted + 2]
            counted += 2
            await ending
    assert Counted.built["a"] > RELEASES / 10, "the object was rarely released"
