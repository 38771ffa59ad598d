"""Fetch of a set in the background: progress, failures, retries, and the process that fetches."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from prepserver.models import background
from prepserver.models.attempts import save_problem
from prepserver.models.background import FIRST_RETRY, MAX_RETRY, BackgroundFetch, pull_in_process
from prepserver.models.store import ModelStore
from prepserver.wire.protocol import ModelFetch
from tests.server.models.builders import catalogue, gguf, hub_entry
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

LANGUAGE, SPEECH = gguf(b"language"), gguf(b"speech", 1_000)
TOTAL = len(LANGUAGE) + len(SPEECH)


class FetchHarness:
    """Fetch whose attempts are played by the test."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = ManualClock()
        asyncio.get_running_loop().set_default_executor(self.clock.create_executor())
        self.store = ModelStore(
            tmp_path / "models",
            catalogue(
                hub_entry("talks", LANGUAGE),
                hub_entry("hears", SPEECH, kind="stt"),
                better=("talks", "hears"),
            ),
        )
        self.states: list[ModelFetch] = []
        self.attempts: list[asyncio.Future[str]] = []
        self.fetch = BackgroundFetch(
            self.store, self.store.catalogue.sets[0], self.clock, self.states.append, self._pull
        )
        self.task = asyncio.create_task(self.fetch.run())

    async def _pull(self, store: ModelStore, name: str) -> str:
        assert name == "better"
        self.attempts.append(asyncio.get_running_loop().create_future())
        return await self.attempts[-1]

    def install(self) -> None:
        self.store.root.mkdir(exist_ok=True)
        (self.store.root / "talks.gguf").write_bytes(LANGUAGE)
        (self.store.root / "hears.gguf").write_bytes(SPEECH)

    async def end(self, problem: str = "") -> None:
        self.attempts[-1].set_result(problem)
        await self.clock.advance(0)


@asynchronous
async def test_an_installed_set_is_not_fetched(tmp_path: Path) -> None:
    """If the set is installed, nothing is fetched and clients see nothing; files that a killed
    process has left are removed."""
    harness = FetchHarness(tmp_path)
    harness.install()
    (harness.store.work_folder("hears", "package") / "joined").write_bytes(SPEECH)
    await harness.clock.advance(1)
    assert await harness.task is False
    assert (harness.attempts, harness.states, harness.fetch.state) == ([], [], None)
    assert not (harness.store.work_root / "hears").exists()


@asynchronous
async def test_the_progress_is_that_of_the_files_on_the_disk(tmp_path: Path) -> None:
    """Clients see the bytes on the disk, which never go back during an attempt, and in the end that
    the set is complete."""
    harness = FetchHarness(tmp_path)
    await harness.clock.advance(0)
    part = harness.store.work_folder("talks") / "joined"
    for size in (1_000, 2_000, 500, 3_000, 50_000):
        part.write_bytes(bytes(size))
        await harness.clock.advance(1)
    harness.install()
    await harness.end()
    assert await harness.task is True
    assert [each.done for each in harness.states] == [0, 1_000, 2_000, 3_000, len(LANGUAGE), TOTAL]
    assert {each.total for each in harness.states} == {TOTAL}
    assert harness.fetch.state == ModelFetch(model_set="better", done=TOTAL, total=TOTAL)


@asynchronous
async def test_progress_is_below_the_total_until_the_set_is_installed(tmp_path: Path) -> None:
    """While files of full size await verification, the set does not count as complete."""
    harness = FetchHarness(tmp_path)
    await harness.clock.advance(0)
    for name in ("talks", "hears"):
        (harness.store.work_folder(name) / "joined").write_bytes(bytes(9_000))
    await harness.clock.advance(1)
    assert harness.states[-1].done == TOTAL - 1
    harness.task.cancel()
    await asyncio.gather(harness.task, return_exceptions=True)


@asynchronous
async def test_a_failure_is_shown_and_tried_again_later(tmp_path: Path) -> None:
    """A failed attempt shows its reason until the next attempt starts, and one that succeeds ends
    the fetch."""
    harness = FetchHarness(tmp_path)
    await harness.clock.advance(0)
    for number in range(3):
        await harness.end(f"Reason {number}.")
        assert harness.states[-1].error == f"Reason {number}."
        await harness.clock.advance(FIRST_RETRY * 2**number)
        assert harness.states[-1].error == ""
    harness.install()
    await harness.end()
    assert await harness.task is True
    assert harness.states[-1].error == ""


@asynchronous
async def test_the_delays_between_attempts(tmp_path: Path) -> None:
    """Attempts start 60, 120, 240 … seconds after the failures, never more than an hour."""
    harness = FetchHarness(tmp_path)
    await harness.clock.advance(0)
    for delay in (60, 120, 240, 480, 960, 1_920, 3_600, 3_600):
        count = len(harness.attempts)
        await harness.end("Reason.")
        await harness.clock.advance(delay - 1)
        assert len(harness.attempts) == count
        await harness.clock.advance(1)
        assert len(harness.attempts) == count + 1
    assert (FIRST_RETRY, MAX_RETRY) == (60, 3_600)
    harness.task.cancel()
    await asyncio.gather(harness.task, return_exceptions=True)


@asynchronous
async def test_the_stored_reason_is_preferred(tmp_path: Path) -> None:
    """Clients see the reason that the fetching process has stored, as `prep models list` does; a
    process that ends without a reason gets a general one."""
    harness = FetchHarness(tmp_path)
    await harness.clock.advance(0)
    await harness.end("")
    assert harness.states[-1].error
    harness.store.work_root.mkdir(parents=True)
    save_problem(harness.store, "hears", "The disk is full.")
    await harness.clock.advance(FIRST_RETRY)
    await harness.end("Something else.")
    assert harness.states[-1].error == "The disk is full."
    harness.task.cancel()
    await asyncio.gather(harness.task, return_exceptions=True)


# --- The process ----------------------------------------------------------------------------------


def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Replace Python by one that runs `script`."""
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{script}")
    python.chmod(0o755)
    monkeypatch.setattr(background, "sys", SimpleNamespace(executable=str(python)))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('{}')", ""),
        ("import sys; print('x' * 1_000_000); sys.exit('Error: No space is left.')", "No space is"),
        ("import sys; sys.exit('a' * 1_000_000 + '\\nError: The last line.')", "The last line."),
        ("import os; os.kill(os.getpid(), 9)", "interrupted"),
        ("import sys; sys.exit(3)", "interrupted"),
    ],
)
@asynchronous
async def test_the_last_line_of_a_failed_process_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    """A process that succeeds gives no reason; a process that fails gives its last line, and one
    that is killed a general reason. Output of any size is read."""
    stand_in(monkeypatch, tmp_path, script)
    found = await pull_in_process(ModelStore(tmp_path), "better")
    assert reason in found
    assert bool(found) is bool(reason)


@asynchronous
async def test_a_cancelled_fetch_ends_the_process_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server stops, the process that fetches is killed together with pip; both ran at the
    lowest priority."""
    pids = tmp_path / "pids"
    pids.touch()
    stand_in(
        monkeypatch,
        tmp_path,
        "import os, subprocess, sys, time\n"
        f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "child = 'import os, time; time.sleep(600)'\n"
        f"process = subprocess.Popen([{sys.executable!r}, '-c', child])\n"
        f"open({str(pids)!r}, 'a').write(f'{{process.pid}}\\n')\n"
        "time.sleep(600)\n",
    )
    task = asyncio.create_task(pull_in_process(ModelStore(tmp_path), "better"))
    await until(lambda: pids.read_text().count("\n") == 2)
    found = [int(line) for line in pids.read_text().split()]
    await until(lambda: {os.getpriority(os.PRIO_PROCESS, pid) for pid in found} == {19})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not any(is_running(pid) for pid in found))


async def until(condition: Callable[[], bool]) -> None:
    """Wait at most 30 s for another process."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process changes the condition
            await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed grandchild stays a zombie until the system's first process reaps it.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
