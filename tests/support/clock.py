"""Virtual time for a whole server: nothing passes unless a test says so."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["ManualClock", "Threads"]

TURNS = 10
"""Turns of the loop that woken tasks get before time goes on."""


class Threads(ThreadPoolExecutor):
    """Threads whose work can be waited for."""

    def __init__(self) -> None:
        super().__init__(max_workers=8)
        self._working: set[Future[None]] = set()
        self._rested = True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        result: Future[Any] = Future()
        done: Future[None] = Future()
        self._working.add(done)
        self._rested = False

        def work() -> None:
            if result.set_running_or_notify_cancel():
                try:
                    value = fn(*args, **kwargs)
                except BaseException as error:
                    result.set_exception(error)
                else:
                    result.set_result(value)
            # Only now: whoever awaits the result has been told.
            self._working.discard(done)
            done.set_result(None)

        super().submit(work)
        return result

    async def rest(self) -> bool:
        """Return when nothing is under way; whether there was something since the last time."""
        rested, self._rested = self._rested, True
        while working := list(self._working):
            await asyncio.wait([asyncio.wrap_future(done) for done in working])
        return not rested


class ManualClock:
    """A clock that stands still between calls of `advance`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """`start` in seconds since the Unix epoch."""
        self._start = start
        self._passed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._threads: list[Threads] = []
        self._overtaking = False

    def threads(self) -> Threads:
        """Threads that time does not overtake: `advance` waits for their work."""
        threads = Threads()
        self._threads.append(threads)
        return threads

    def now(self) -> float:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has come that far; zero or less gives other tasks one turn."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float, *, overtaking: bool = False) -> None:
        """Let time pass, waking each sleeper at its time and in its order.

        `overtaking` says that work in `threads` is not waited for, as that in others never is.
        """
        self._overtaking = overtaking
        end = self._passed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue  # whoever slept was cancelled
            self._passed = max(self._passed, due)
            woken.set_result(None)
            await self._settle()
        self._passed = end
        await self._settle()

    async def _settle(self) -> None:
        working = True
        while working:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            working = False
            if not self._overtaking:
                working = any([await threads.rest() for threads in self._threads])
