"""Alarms in killed processes: each alarm fires, and the effect of its handler is stored once.

The objects are test objects; the registry, storage, alarm index and disk are real.
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
"""Maximum number of seconds from a start until all due alarms have fired."""
WHILE_RUNNING = 1.0
"""Maximum number of seconds by which an alarm may be late while the process is running."""
HOUR = 3_600.0
TIMEOUT = 30.0
"""Maximum number of real seconds to wait for an event."""


class AlarmProcess:
    """Process that runs `tests.support.alarm_process`, with the events that it has reported."""

    def __init__(self, folder: Path, offset: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.alarm_process", str(folder), str(offset)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self._unread: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.started = self.wait(lambda event: event["event"] == "started")["time"]

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
            if line.endswith("\n"):  # a kill may cut off the last line
                self._unread.put(json.loads(line))

    def send(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def wait(
        self, matches: Callable[[dict[str, Any]], bool], timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """Return the next event that matches; fail if no match arrives within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self._unread.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"no such event among {self.events}") from None
            self.events.append(event)
            if matches(event):
                return event

    def set_alarm(self, number: int, after: float, name: str = "a") -> None:
        """Set an object's alarm to `after` seconds from now, and wait for the acknowledgement."""
        self.send(set=name, number=number, after=after)
        self.wait(lambda event: event["event"] == "set" and event["number"] == number)

    def wait_until_done(self, number: int, name: str = "a") -> float:
        """Wait until the handler of an alarm is done, and return the time at which it ended."""
        event = self.wait(lambda e: (e["event"], e["name"], e["number"]) == ("done", name, number))
        return float(event["time"])

    def firings(self, name: str = "a") -> list[int]:
        """Return the numbers of the alarms that an object has stored as fired."""
        self.send(firings=name)
        event = self.wait(lambda e: e["event"] == "firings" and e["name"] == name)
        return list(event["numbers"])

    def numbers(self, kind: str) -> set[int]:
        """Return the numbers of the alarms for which events of the given kind were reported."""
        return {event["number"] for event in self.events if event["event"] == kind}

    def kill(self) -> None:
        """End the process with SIGKILL, and read the events that it reported before its end."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        while not self._unread.empty():
            self.events.append(self._unread.get())
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


# --- Kills at a certain moment ------------------------------------------------------------------


def test_an_alarm_fires_after_a_kill_before_its_handler(tmp_path: Path) -> None:
    """An acknowledged alarm that falls due while no process is running fires at the next start."""
    with AlarmProcess(tmp_path) as process:
        process.set_alarm(1, after=0.3)
        process.kill()
    time.sleep(0.3)
    with AlarmProcess(tmp_path) as process:
        assert process.wait_until_done(1) - process.started < AFTER_RESTART
        assert process.firings() == [1]


@pytest.mark.parametrize("where", ["early", "late"])
def test_an_alarm_fires_again_after_a_kill_inside_its_handler(tmp_path: Path, where: str) -> None:
    """A handler that is killed before its first or after its last write runs again, and its effect
    is stored once."""
    with AlarmProcess(tmp_path) as process:
        process.send(hang=where)
        process.set_alarm(1, after=0.0)
        process.wait(lambda event: event["event"] == "fired")
        process.kill()
    with AlarmProcess(tmp_path) as process:
        process.kill()  # before, while or just after the alarm fires
    with AlarmProcess(tmp_path) as process:
        while process.firings() != [1]:
            assert time.time() - process.started < AFTER_RESTART
            time.sleep(0.05)


def test_an_alarm_does_not_fire_again_after_its_handler(tmp_path: Path) -> None:
    """An alarm does not fire again after a kill if its handler's effect has been stored."""
    for number in range(3):
        with AlarmProcess(tmp_path) as process:
            process.set_alarm(number, after=0.0)
            process.wait_until_done(number)
            process.kill()
        with AlarmProcess(tmp_path) as process:
            process.set_alarm(100, after=0.5, name="b")
            process.wait_until_done(100, name="b")  # earlier alarms have fired
            assert process.firings() == list(range(number + 1))


# --- Kills at random moments --------------------------------------------------------------------


def kill_at_random_moments(folder: Path, kills: int, seed: int) -> None:
    """Start and kill the process `kills` times, then check which alarms are stored as fired.

    Each run sets ten alarms that are due shortly before or after its kill. Each acknowledged alarm
    must be stored once within `AFTER_RESTART` seconds of the last start; no alarm may be stored
    twice.
    """
    rng = random.Random(seed)
    acknowledged: set[int] = set()
    fired_before: set[int] = set()
    number = 0
    for _ in range(kills):
        with AlarmProcess(folder) as process:
            for _ in range(10):
                number += 1
                process.send(set=f"o{number}", number=number, after=rng.random() * 0.3)
            time.sleep(rng.random() * 0.4)
        acknowledged |= process.numbers("set")
        fired_before |= process.numbers("fired")
    with AlarmProcess(folder) as process:
        time.sleep(max(0.0, process.started + AFTER_RESTART - time.time()))
        firings = {n: process.firings(f"o{n}") for n in range(1, number + 1)}
    assert {n for n in acknowledged if firings[n] != [n]} == set()
    assert {n for n, fired in firings.items() if fired not in ([], [n])} == set()
    late = len(acknowledged - fired_before)
    print(
        f"{kills} kills: {number} alarms, {len(acknowledged)} acknowledged, {late} fired at the end"
    )
    assert min(len(acknowledged), len(fired_before)) > kills


def test_acknowledged_alarms_survive_12_kills(tmp_path: Path) -> None:
    """Despite 12 kills at random moments, each acknowledged alarm fires, and its effect is stored
    once."""
    kill_at_random_moments(tmp_path, 12, seed=1)


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_acknowledged_alarms_survive_500_kills(tmp_path: Path) -> None:
    """Despite 500 kills at random moments, each acknowledged alarm fires, and its effect is stored
    once."""
    kill_at_random_moments(tmp_path, 500, seed=2)


# --- Changes of the clock -----------------------------------------------------------------------


def test_alarms_follow_a_clock_that_is_changed_at_run_time(tmp_path: Path) -> None:
    """After the clock jumps an hour ahead, due alarms fire within a second; after the clock jumps
    back, alarms wait for their time and then fire once."""
    with AlarmProcess(tmp_path) as process:
        process.set_alarm(1, after=HOUR / 2)
        changed_at = time.time()
        process.send(move=HOUR)
        assert process.wait_until_done(1) - changed_at < WHILE_RUNNING
        process.set_alarm(2, after=1.0)
        process.send(move=-HOUR)
        time.sleep(1.5)
        assert process.firings() == [1]
        changed_at = time.time()
        process.send(move=HOUR)
        assert process.wait_until_done(2) - changed_at < WHILE_RUNNING
        assert process.firings() == [1, 2]


def test_alarms_follow_a_clock_that_is_changed_between_runs(tmp_path: Path) -> None:
    """After a start with the clock set back an hour, no alarm fires early; after a start with the
    clock set an hour ahead, due alarms fire once and within five seconds."""
    with AlarmProcess(tmp_path) as process:
        process.set_alarm(1, after=HOUR / 2)
        process.set_alarm(2, after=1.0, name="b")
    with AlarmProcess(tmp_path, offset=-HOUR) as process:
        time.sleep(1.5)
        assert process.firings() == []
        assert process.firings("b") == []
    with AlarmProcess(tmp_path, offset=HOUR) as process:
        assert process.wait_until_done(1) - process.started < AFTER_RESTART
    with AlarmProcess(tmp_path) as process:
        assert process.firings() == [1]
        assert process.firings("b") == [2]
