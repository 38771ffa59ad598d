"""Virtual time for a whole server: nothing passes unless a test says so."""

import asyncio
import heapq
import itertools

__all__ = ["ManualClock"]

TURNS = 10
"""Turns of the loop that woken tasks get before time goes on."""


class ManualClock:
    """A clock that stands still between calls of `advance`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """`start` in seconds since the Unix epoch."""
        self._start = start
        self._passed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

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

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking each sleeper at its time and in its order.

        Work in threads is not waited for: await what it leads to.
        """
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
        for _ in range(TURNS):
            await asyncio.sleep(0)
