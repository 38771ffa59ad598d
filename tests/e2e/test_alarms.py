"""Alarms of a process that is killed: each fires, and what its handler did is there once.

The objects are small ones of the tests; registry, storage, index and disk are the real ones.
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import pytest

pytestmark = pytest.mark.e2e

AFTER_RESTART = 5.0
"""Seconds from the start until everything that fell due meanwhile has fired."""
WHILE_RUNNING = 1.0
"""Seconds that an alarm may be late."""
HOUR = 3_600.0
PATIENCE = 30.0
"""Real seconds."""


class Ringer:
    """`python -m tests.support.ringer`, told what to do; `facts` is what it has said."""

    def __init__(self, folder: Path, moved: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ringer", str(folder), str(moved)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts: list[dict[str, Any]] = []
        self._said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.started = self.wait(lambda fact: fact["event"] == "started")["time"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):  # the last one may be cut off by the kill
                self._said.put(json.loads(line))

    def tell(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def wait(
        self, fits: Callable[[dict[str, Any]], bool], limit: float = PATIENCE
    ) -> dict[str, Any]:
        """The next fact that fits."""
        until = time.monotonic() + limit
        while True:
            try:
                fact = self._said.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise AssertionError(f"it did not come to be; said was {self.facts}") from None
            self.facts.append(fact)
            if fits(fact):
                return fact

    def wind(self, number: int, after: float, name: str = "a") -> None:
        """Set an object's alarm and wait until it is promised."""
        self.tell(set=name, number=number, after=after)
        self.wait(lambda fact: fact["event"] == "set" and fact["number"] == number)

    def rung(self, number: int, name: str = "a") -> float:
        """Wait until an alarm's handler is done; the time of it."""
        fact = self.wait(lambda f: (f["event"], f["name"], f["number"]) == ("done", name, number))
        return float(fact["time"])

    def rings(self, name: str = "a") -> list[int]:
        """The rings that are stored, by the numbers of their alarms."""
        self.tell(rings=name)
        rings: list[int] = self.wait(lambda f: f["event"] == "rings" and f["name"] == name)["rings"]
        return rings

    def numbers(self, said: str) -> set[int]:
        """Of which alarms something was said."""
        return {fact["number"] for fact in self.facts if fact["event"] == said}

    def kill(self) -> None:
        """End it with SIGKILL, and take in what it had said before."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        while not self._said.empty():
            self.facts.append(self._said.get())
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


# --- Killed at a certain moment -----------------------------------------------------------------


def test_killed_before_the_handler(tmp_path: Path) -> None:
    """Set, acknowledged, killed at once; due while nobody is there, it fires at the start."""
    with Ringer(tmp_path) as ringer:
        ringer.wind(1, after=0.3)
        ringer.kill()
    time.sleep(0.3)
    with Ringer(tmp_path) as ringer:
        assert ringer.rung(1) - ringer.started < AFTER_RESTART
        assert ringer.rings() == [1]


@pytest.mark.parametrize("where", ["early", "late"])
def test_killed_inside_the_handler(tmp_path: Path, where: str) -> None:
    """Before its first write or after its last: it had not happened, so it fires again; three
    times in a row, and what it does is there once."""
    with Ringer(tmp_path) as ringer:
        ringer.tell(hang=where)
        ringer.wind(1, after=0.0)
        ringer.wait(lambda fact: fact["event"] == "rang")
        ringer.kill()
    with Ringer(tmp_path) as ringer:
        ringer.kill()  # before it is noticed that anything is due, while it is, or just after
    with Ringer(tmp_path) as ringer:
        while ringer.rings() != [1]:
            assert time.time() - ringer.started < AFTER_RESTART
            time.sleep(0.05)


def test_killed_after_the_handler(tmp_path: Path) -> None:
    """As soon as anything shows that it has fired, it is not done a second time."""
    for number in range(3):
        with Ringer(tmp_path) as ringer:
            ringer.wind(number, after=0.0)
            ringer.rung(number)
            ringer.kill()
        with Ringer(tmp_path) as ringer:
            ringer.wind(100, after=0.5, name="b")
            ringer.rung(100, name="b")  # whatever was due before has had its turn
            assert ringer.rings() == list(range(number + 1))


# --- Killed at any moment -----------------------------------------------------------------------


def killed_at_any_moment(folder: Path, kills: int, seed: int) -> None:
    """Ten more alarms in each life, all due at about the time of the kill: before it, during and
    after. Each that was acknowledged has rung five seconds after the last start, and none twice."""
    rng = random.Random(seed)
    promised: set[int] = set()
    rang_before: set[int] = set()
    number = 0
    for _ in range(kills):
        with Ringer(folder) as ringer:
            for _ in range(10):
                number += 1
                ringer.tell(set=f"o{number}", number=number, after=rng.random() * 0.3)
            time.sleep(rng.random() * 0.4)
        promised |= ringer.numbers("set")
        rang_before |= ringer.numbers("rang")
    with Ringer(folder) as ringer:
        time.sleep(max(0.0, ringer.started + AFTER_RESTART - time.time()))
        rings = {n: ringer.rings(f"o{n}") for n in range(1, number + 1)}
    assert {n for n in promised if rings[n] != [n]} == set()
    assert {n for n, rung in rings.items() if rung not in ([], [n])} == set()
    left = len(promised - rang_before)
    print(f"{kills} kills: {number} alarms, {len(promised)} acknowledged, {left} rang at the end")
    assert min(len(promised), len(rang_before)) > kills


def test_killed_12_times_at_any_moment(tmp_path: Path) -> None:
    """12 kills, 120 alarms: each that was promised fires, and its effect is there once."""
    killed_at_any_moment(tmp_path, 12, seed=1)


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_killed_500_times_at_any_moment(tmp_path: Path) -> None:
    """The same at length."""
    killed_at_any_moment(tmp_path, 500, seed=2)


# --- The clock is moved -------------------------------------------------------------------------


def test_a_clock_that_is_moved_while_the_process_runs(tmp_path: Path) -> None:
    """An hour ahead: what has fallen due by that fires within a second. An hour back: what is due
    in a moment waits for its hour, and fires once when it has come."""
    with Ringer(tmp_path) as ringer:
        ringer.wind(1, after=HOUR / 2)
        moved = time.time()
        ringer.tell(move=HOUR)
        assert ringer.rung(1) - moved < WHILE_RUNNING
        ringer.wind(2, after=1.0)
        ringer.tell(move=-HOUR)
        time.sleep(1.5)
        assert ringer.rings() == [1]
        moved = time.time()
        ringer.tell(move=HOUR)
        assert ringer.rung(2) - moved < WHILE_RUNNING
        assert ringer.rings() == [1, 2]


def test_a_clock_that_is_moved_while_the_process_is_down(tmp_path: Path) -> None:
    """The same across a kill: ahead it fires within five seconds of the start, and back it
    waits; neither is lost or done twice."""
    with Ringer(tmp_path) as ringer:
        ringer.wind(1, after=HOUR / 2)
        ringer.wind(2, after=1.0, name="b")
    with Ringer(tmp_path, moved=-HOUR) as ringer:
        time.sleep(1.5)
        assert ringer.rings() == []
        assert ringer.rings("b") == []
    with Ringer(tmp_path, moved=HOUR) as ringer:
        assert ringer.rung(1) - ringer.started < AFTER_RESTART
    with Ringer(tmp_path) as ringer:
        assert ringer.rings() == [1]
        assert ringer.rings("b") == [2]
