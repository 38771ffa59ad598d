"""The clock that is passed to every part of the server that reads the time or sleeps."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

__all__ = ["Clock", "SystemClock", "wait_for"]

T = TypeVar("T")


class Clock(Protocol):
    """Source of time and of delays."""

    def now(self) -> float:
        """Return the time in seconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Return the time in seconds of a clock that never goes backwards; its zero is
        arbitrary."""

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds` seconds. If `seconds` is zero or less, let other tasks run once."""


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def wait_for(clock: Clock, awaitable: Awaitable[T], timeout: float) -> T:
    """Await a result like `asyncio.wait_for`, but with a timeout in seconds of `clock`.

    On timeout the awaitable is cancelled and awaited, then TimeoutError is raised.
    """
    task = asyncio.ensure_future(awaitable)
    timer = asyncio.create_task(clock.sleep(timeout))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        timer.cancel()
        task.cancel()
        await asyncio.gather(task, timer, return_exceptions=True)
    raise TimeoutError
