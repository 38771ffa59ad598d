"""A clock for tests with real processes: they take real time, and only waiting is virtual."""

import asyncio


class SkippingClock:
    """Short sleeps pass at once and are noted in `slept`; longer ones wait for `advance`."""

    def __init__(self, *, skip: float = 0.0) -> None:
        """`skip`: the longest sleep, in seconds, that passes by itself."""
        self.slept: list[float] = []
        self._skip = skip
        self._time = 0.0
        self._begun = asyncio.Event()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def sleeper(self, seconds: float) -> None:
        """Wait until somebody sleeps for just so long from now."""
        while all(deadline != self._time + seconds for deadline, _ in self._sleepers):
            self._begun.clear()
            await self._begun.wait()

    def now(self) -> float:
        return 1_700_000_000.0 + self._time

    def monotonic(self) -> float:
        return self._time

    async def sleep(self, seconds: float) -> None:
        if seconds <= self._skip:
            self.slept.append(seconds)
            self._time += max(0.0, seconds)
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._time + seconds, woken))
        self._begun.set()
        try:
            await woken
        finally:
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[1] is not woken]

    def advance(self, seconds: float) -> None:
        """Wake everybody whose time has come."""
        self._time += seconds
        for deadline, woken in self._sleepers:
            if deadline <= self._time and not woken.done():
                woken.set_result(None)
