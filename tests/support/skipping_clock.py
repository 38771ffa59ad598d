"""Clock for tests with real processes: short sleeps end immediately, and longer sleeps wait for the
test to advance the time."""

import asyncio


class SkippingClock:
    """Clock on which short sleeps end immediately, while longer sleeps wait for `advance`."""

    def __init__(self, *, skip: float = 0.0) -> None:
        """Create a clock on which sleeps of at most `skip` seconds end immediately."""
        self.sleeps: list[float] = []
        """Durations in seconds of the sleeps that have ended immediately."""
        self._skip = skip
        self._time = 0.0
        self._sleep_started = asyncio.Event()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def wait_for_sleep(self, seconds: float) -> None:
        """Wait until a task is in a sleep that ends exactly `seconds` seconds from now."""
        while all(deadline != self._time + seconds for deadline, _ in self._sleepers):
            self._sleep_started.clear()
            await self._sleep_started.wait()

    def now(self) -> float:
        return 1_700_000_000.0 + self._time

    def monotonic(self) -> float:
        return self._time

    async def sleep(self, seconds: float) -> None:
        if seconds <= self._skip:
            self.sleeps.append(seconds)
            self._time += max(0.0, seconds)
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._time + seconds, woken))
        self._sleep_started.set()
        try:
            await woken
        finally:
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[1] is not woken]

    def advance(self, seconds: float) -> None:
        """Advance the time and wake the tasks whose sleep has ended."""
        self._time += seconds
        for deadline, woken in self._sleepers:
            if deadline <= self._time and not woken.done():
                woken.set_result(None)
