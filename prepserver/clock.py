"""Time, injected: nothing in the server reads the wall clock or sleeps but through here."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

__all__ = ["Clock", "SystemClock", "wait_for"]

T = TypeVar("T")


class Clock(Protocol):
    """What the server needs of time."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less gives other tasks one turn."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def wait_for(clock: Clock, work: Awaitable[T], seconds: float) -> T:
    """What some work gives. Raises TimeoutError after so long, when the work was cancelled."""
    working = asyncio.ensure_future(work)
    pause = asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({working, pause}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        pause.cancel()
        working.cancel()
        await asyncio.gather(working, pause, return_exceptions=True)
    raise TimeoutError
