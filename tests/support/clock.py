"""Virtual time for a whole server, which the test advances."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["ManualClock", "TrackedExecutor"]

LOOP_ITERATIONS = 10
"""Number of event-loop iterations in which woken tasks may run before time advances."""


class TrackedExecutor(ThreadPoolExecutor):
    """Thread pool whose idle state can be awaited."""

    def __init__(self) -> None:
        super().__init__(max_workers=8)
        self._working: set[Future[None]] = set()
        self._unused = True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        result: Future[Any] = Future()
        done: Future[None] = Future()
        self._working.add(done)
        self._unused = False

        def work() -> None:
            if result.set_running_or_notify_cancel():
                try:
                    value = fn(*args, **kwargs)
                except BaseException as error:
                    result.set_exception(error)
                else:
                    result.set_result(value)
            # Last, after the waiters for the result have been notified.
            self._working.discard(done)
            done.set_result(None)

        super().submit(work)
        return result

    async def wait_idle(self) -> bool:
        """Wait until no work is running; return True if any work was submitted since the last
        call."""
        unused, self._unused = self._unused, True
        while working := list(self._working):
            await asyncio.wait([asyncio.wrap_future(done) for done in working])
        return not unused


class ManualClock:
    """Clock whose time changes only when `advance` or `jump` is called."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """Create a clock that starts at `start`, in seconds since the Unix epoch."""
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._executors: list[TrackedExecutor] = []
        self._wait_for_threads = True

    def create_executor(self) -> TrackedExecutor:
        """Return a new thread pool whose work `advance` waits for."""
        executor = TrackedExecutor()
        self._executors.append(executor)
        return executor

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Sleep until `advance` reaches the end of the sleep; yield to other tasks once if
        `seconds` is zero or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        await woken

    def jump(self, seconds: float) -> None:
        """Advance the time without waking sleepers."""
        self._elapsed += seconds

    async def advance(self, seconds: float, *, wait_for_threads: bool = True) -> None:
        """Advance the time, waking the sleepers in order, each at the end of its sleep.

        With `wait_for_threads`, work in the pools of `create_executor` is completed before the time
        advances further.
        """
        self._wait_for_threads = wait_for_threads
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue  # the sleeper was cancelled
            self._elapsed = max(self._elapsed, due)
            woken.set_result(None)
            await self._settle()
        self._elapsed = end
        await self._settle()

    async def _settle(self) -> None:
        working = True
        while working:
            for _ in range(LOOP_ITERATIONS):
                await asyncio.sleep(0)
            working = False
            if self._wait_for_threads:
                working = any([await executor.wait_idle() for executor in self._executors])
