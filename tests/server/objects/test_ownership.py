"""Who comes second: one instance of an object, one owner of a data directory."""

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
from tests.support.objects import alive, call_to

RACES = 500
RELEASES = 100


class Contender:
    """A process that tries to own the folder when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.contender", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def ask(self, word: str) -> dict[str, Any]:
        self.tell(word)
        return self.answer()

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
def test_of_two_processes_one_owns_the_directory_and_the_other_is_told_which(
    tmp_path: Path,
) -> None:
    """500 races for one folder: one owner each time, who can work; the other's error has its
    pid, not that of an owner before."""
    rng = random.Random(3)
    owners = []
    with contenders(tmp_path) as two:
        for race in range(RACES):
            rng.shuffle(two)
            for one in two:
                one.tell("take")
            answers = [one.answer() for one in two]
            [owner] = [
                one for one, answer in zip(two, answers, strict=True) if "code" not in answer
            ]
            [refused] = [answer for answer in answers if "code" in answer]
            assert refused["code"] == ErrorCode.DATA_DIR_IN_USE
            assert f"(process {owner.pid})" in refused["message"]
            assert owner.ask("call")["count"] == race + 1
            owner.ask("drop")
            owners.append(owner.pid)
    assert len(set(owners)) == 2, "one of them won every race: that was none"


def test_an_owner_that_goes_while_another_comes(tmp_path: Path) -> None:
    """Whoever asks during the owner's last moments is refused or owns the folder alone, and
    nothing that was counted is lost on the way."""
    counted = 0
    with contenders(tmp_path) as two:
        owner, other = two
        owner.ask("take")
        for _ in range(RACES // 5):
            owner.tell("drop")
            other.tell("take")
            owner.answer()
            while "code" in (answer := other.answer()):
                assert f"(process {owner.pid})" in answer["message"]
                other.tell("take")
            counted += 1
            assert other.ask("call")["count"] == counted
            owner, other = other, owner


def test_an_owner_that_is_killed_is_followed_at_once(tmp_path: Path) -> None:
    """The kernel frees the folder with the process, and the next one is not told of it."""
    for killed in range(5):
        with contenders(tmp_path) as (owner, other):
            assert "code" not in owner.ask("take")
            assert "code" in other.ask("take")
            assert owner.ask("call")["count"] == killed * 2 + 1
            owner.kill()
            (tmp_path / "owned").unlink()
            assert "code" not in other.ask("take")
            assert other.ask("call")["count"] == killed * 2 + 2
            other.ask("drop")


# --- Two activations ----------------------------------------------------------------------------


class Counted(Tally):
    """Also counts the instances that there ever were."""

    built: dict[str, int]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        Counted.built[context.name] = Counted.built.get(context.name, 0) + 1


@pytest.fixture(autouse=True)
def _nothing_built() -> None:
    Counted.built = {}


@asynchronous
async def test_calls_at_the_same_moment_build_one_instance(tmp_path: Path) -> None:
    """500 times an object that is not in memory is called by eight at once: 50 objects, new and
    then nine times released."""
    clock = ManualClock()
    names = [f"o{number}" for number in range(RACES // 10)]
    async with alive(tmp_path, Counted, clock=clock) as registry:
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
async def test_an_object_that_is_released_while_it_is_called_counts_on(tmp_path: Path) -> None:
    """However release and call meet, the new instance has seen all that the old one stored."""
    clock = ManualClock()
    rng = random.Random(5)
    counted = 0
    async with alive(tmp_path, Counted, clock=clock) as registry:
        for _ in range(RELEASES):
            await clock.advance(10.5)
            # The look for idle objects comes at a full second: before, while and after it.
            ending = asyncio.create_task(clock.advance(1))
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            calls = [registry.call(call_to(Counted, "a", Counted.add)) for _ in range(2)]
            assert await asyncio.gather(*calls) == [counted + 1, counted + 2]
            counted += 2
            await ending
    assert Counted.built["a"] > RELEASES / 10, "it was hardly ever released"
