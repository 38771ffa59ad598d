"""Fetch of one set in the background, in a process of its own at the lowest priority.

The process is `prep-server models pull SET --json`. If the server is killed, it ends at its next
line of progress; the next server goes on from the parts on the disk. Another process that is
fetching the same set is waited for, and its progress is shown.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog

from prepserver.clock import Clock
from prepserver.models.catalogue import ModelSet
from prepserver.models.sets import StoredSet, find_stored_set
from prepserver.models.store import ModelStore
from prepserver.wire.protocol import ModelFetch

__all__ = ["BackgroundFetch", "pull_in_process"]

FIRST_RETRY = 60.0
"""Seconds before the second attempt; each further failure doubles the delay."""
MAX_RETRY = 3_600.0
"""Maximum delay before another attempt, in seconds."""
POLL_SECONDS = 1.0
"""Seconds between two looks at the progress on the disk."""
MAX_ERROR = 4_096
"""Maximum number of bytes of the process's standard error that are kept, from its end."""

log = structlog.get_logger(__name__)

Pull = Callable[[ModelStore, str], Awaitable[str]]
"""Function that fetches a set and returns the reason of a failure, or an empty string."""


class BackgroundFetch:
    """Fetch of one set, with its progress for clients. A failed attempt is repeated later."""

    def __init__(
        self,
        store: ModelStore,
        chosen: ModelSet,
        clock: Clock,
        on_change: Callable[[ModelFetch], None],
        pull: Pull | None = None,
    ) -> None:
        """`on_change` is called with each new `state`, in the event loop."""
        self.state: ModelFetch | None = None
        """Progress of the fetch; None if the set was installed before or nothing was tried yet."""
        self._store = store
        self._set = chosen
        self._clock = clock
        self._on_change = on_change
        self._pull = pull or pull_in_process

    async def run(self) -> bool:
        """Fetch the set, and return True once it is installed; False if it was installed before."""
        delay = FIRST_RETRY
        if (await self._look()).installed:
            await asyncio.to_thread(self._clear_leftovers)
            return False
        while True:
            problem = await self._attempt()
            found = await self._look()
            if found.installed:
                log.info("model_set.fetched", set=self._set.name)
                self._report(found, "")
                return True
            problem = found.problem or problem or "The download ended early."
            log.warning("model_set.fetch_failed", set=self._set.name, reason=problem, delay=delay)
            self._report(found, problem)
            await self._clock.sleep(delay)
            delay = min(MAX_RETRY, 2 * delay)

    async def _attempt(self) -> str:
        """Fetch the set once, and report the progress meanwhile. Return the reason of a failure."""
        log.info("model_set.fetch_started", set=self._set.name)
        pulling = asyncio.ensure_future(self._pull(self._store, self._set.name))
        try:
            while not pulling.done():
                self._report(await self._look(), "")
                timer = asyncio.create_task(self._clock.sleep(POLL_SECONDS))
                await asyncio.wait({pulling, timer}, return_when=asyncio.FIRST_COMPLETED)
                timer.cancel()
            return await pulling
        finally:
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)

    def _clear_leftovers(self) -> None:
        """Remove the files of a process that was killed after it had installed a model."""
        for entry in self._store.catalogue.models_of(self._set):
            if (self._store.work_root / entry.name).exists():
                with contextlib.suppress(OSError), self._store.lock_model(entry.name):
                    self._store.clear_work_folder(entry.name)

    async def _look(self) -> StoredSet:
        return await asyncio.to_thread(find_stored_set, self._store, self._set)

    def _report(self, found: StoredSet, error: str) -> None:
        # The bytes on the disk shrink while parts are joined: the progress never goes back.
        done = found.fetched
        if self.state is not None and not error and not self.state.error:
            done = max(done, self.state.done)
        if not found.installed:
            done = min(done, found.size - 1)
        state = ModelFetch(model_set=found.name, done=done, total=found.size, error=error)
        if state != self.state:
            self.state = state
            self._on_change(state)


async def pull_in_process(store: ModelStore, name: str) -> str:
    """Fetch a set in a child process of the lowest priority, which is killed if the caller is
    cancelled. Return the reason of a failure, or an empty string."""
    arguments = ("-m", "prepserver", "models", "pull", name, "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        "--models-dir",
        str(store.root),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,  # pip, its child, is killed with it
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, process.pid, 19)
        _, errors = await asyncio.gather(_read_end(process.stdout), _read_end(process.stderr))
        code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if code == 0:
        return ""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else "The download was interrupted."


async def _read_end(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end, and return its last `MAX_ERROR` bytes."""
    end = b""
    while chunk := await stream.read(65_536):
        end = (end + chunk)[-MAX_ERROR:]
    return end
