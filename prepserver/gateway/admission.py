"""Who may use an engine now: so many at once, the rest by priority and then by arrival.

The queue is bounded. Whoever finds it full is told so at once, with the wait that the recent
past suggests, which serves them better than a wait without end.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.types import Priority
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Admission", "Estimate"]

MEASURED = 32
"""Recent uses whose mean duration the estimate is made of."""


class Estimate(Struct, frozen=True, kw_only=True):
    """What somebody who asks now would have to expect."""

    position: int
    """In the queue; 0 is taken up at once."""
    seconds: float | None
    """Until taken up; None while nothing has been measured."""


class _Waiting(Struct, frozen=True, order=True):
    priority: Priority
    number: int
    """Of arrival; no two are the same, so the future is never compared."""
    admitted: asyncio.Future[None]


class Admission:
    """The door of one engine."""

    def __init__(self, clock: Clock, *, parallel: int = 1, limit: int = 64) -> None:
        """`parallel` at once; at most `limit` wait."""
        self.parallel = parallel
        self._clock = clock
        self._limit = limit
        self._numbers = itertools.count()
        self._waiting: list[_Waiting] = []
        self._evictable: list[Callable[[], None]] = []
        self._durations: deque[float] = deque(maxlen=MEASURED)
        self.running = 0
        """How many use the engine now."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def estimate(self, priority: Priority = Priority.ANSWER) -> Estimate:
        """A place at the engine becomes free every mean duration divided by their number."""
        if self.running < self.parallel and not self._waiting:
            return Estimate(position=0, seconds=0.0)
        position = 1 + sum(each.priority <= priority for each in self._waiting)
        if not self._durations:
            return Estimate(position=position, seconds=None)
        mean = sum(self._durations) / len(self._durations)
        return Estimate(position=position, seconds=position * mean / self.parallel)

    @asynccontextmanager
    async def admitted(self, priority: Priority) -> AsyncIterator[float]:
        """Wait for a place, and give it back at the end; the seconds waited.

        Raises InferenceError, code `overloaded`: at once when the queue is full of others that
        are at least as urgent, and later when something more urgent needs the place in it.
        """
        arrived = self._clock.monotonic()
        await self._enter(priority)
        begun = self._clock.monotonic()
        try:
            yield begun - arrived
        finally:
            self._durations.append(self._clock.monotonic() - begun)
            self._leave()

    async def _enter(self, priority: Priority) -> None:
        if self.running < self.parallel and not self._waiting:
            self.running += 1
            return
        spare = self._evictable.pop() if self._evictable else None
        if spare is None and len(self._waiting) >= self._limit:
            last = max(self._waiting, default=None)
            if last is None or last.priority <= priority:
                raise self._overloaded(priority)
            self._waiting.remove(last)
            last.admitted.set_exception(self._overloaded(last.priority))
        mine = _Waiting(priority, next(self._numbers), asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if spare is not None:
            spare()  # its place comes to whoever is first in the queue
        try:
            await mine.admitted
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif not mine.admitted.cancelled() and mine.admitted.exception() is None:
                self._leave()  # the place was given in the same moment
            raise

    def _leave(self) -> None:
        while self._waiting:
            first = min(self._waiting)
            self._waiting.remove(first)
            if not first.admitted.done():  # it gave up, and has not come to say so yet
                first.admitted.set_result(None)
                return
        self.running -= 1

    def _overloaded(self, priority: Priority) -> InferenceError:
        estimate = self.estimate(priority)
        when = "in a moment" if estimate.seconds is None else f"in about {estimate.seconds:.0f} s"
        return InferenceError(
            f"The models are busy: {self.waiting} requests are waiting already. Try again {when}.",
            code=ErrorCode.OVERLOADED,
            details={"position": estimate.position, "wait": estimate.seconds},
        )

    # --- Work that nobody waits for -----------------------------------------------------------

    def take_spare(self, evict: Callable[[], None]) -> bool:
        """Take a place only if it is free and nobody waits for one.

        `evict` is called, once at most, when somebody needs it; `leave_spare` gives it back.
        """
        if self.running >= self.parallel or self._waiting:
            return False
        self.running += 1
        self._evictable.append(evict)
        return True

    def leave_spare(self, evict: Callable[[], None]) -> None:
        """Give a place of `take_spare` back, evicted or not."""
        if evict in self._evictable:
            self._evictable.remove(evict)
        self._leave()
