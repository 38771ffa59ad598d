"""Admission control for one model: a limited number of parallel calls and a bounded queue.

Waiting calls are ordered by priority, then by arrival. When the queue is full, the least urgent
call fails with an estimated wait, which is derived from the durations of recent calls.
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

__all__ = ["Admission", "WaitEstimate"]

DURATION_SAMPLES = 32
"""Number of recent calls whose mean duration is used for estimates."""


class WaitEstimate(Struct, frozen=True, kw_only=True):
    """Expected wait of a call that arrives now."""

    position: int
    """Position in the queue; 0 if the call would start immediately."""
    seconds: float | None
    """Estimated seconds until the call starts; None if the call has to wait and no earlier call has
    ended."""


class _Waiter(Struct, frozen=True, order=True):
    priority: Priority
    arrival: int
    """Unique sequence number, so that a comparison of two waiters never reaches their futures."""
    admitted: asyncio.Future[None]


class Admission:
    """Admission control for one model, with its slots and its queue."""

    def __init__(self, clock: Clock, *, parallel: int = 1, max_queue: int = 64) -> None:
        """Allow `parallel` calls to run at once and `max_queue` more calls to wait."""
        self.parallel = parallel
        self.running = 0
        """Number of slots in use."""
        self._clock = clock
        self._max_queue = max_queue
        self._arrivals = itertools.count()
        self._waiters: list[_Waiter] = []
        self._preemptible: list[Callable[[], None]] = []
        self._durations: deque[float] = deque(maxlen=DURATION_SAMPLES)

    @property
    def waiting(self) -> int:
        """Number of queued calls."""
        return len(self._waiters)

    def estimate(self, priority: Priority = Priority.ANSWER) -> WaitEstimate:
        """Estimate the wait of a new call with this priority.

        The estimate assumes that slots become free at a regular interval: the mean duration of
        recent calls divided by `parallel`.
        """
        if self.running < self.parallel and not self._waiters:
            return WaitEstimate(position=0, seconds=0.0)
        position = 1 + sum(waiter.priority <= priority for waiter in self._waiters)
        if not self._durations:
            return WaitEstimate(position=position, seconds=None)
        mean = sum(self._durations) / len(self._durations)
        return WaitEstimate(position=position, seconds=position * mean / self.parallel)

    @asynccontextmanager
    async def acquire_slot(self, priority: Priority) -> AsyncIterator[float]:
        """Wait for a slot, hold it within the `with` block, and yield the seconds waited.

        Raises InferenceError with the code `overloaded` immediately if no slot can be preempted and
        the queue is full of calls that are at least as urgent. Raises the same error later if a
        more urgent call displaces the waiting call.
        """
        arrived_at = self._clock.monotonic()
        await self._acquire(priority)
        started_at = self._clock.monotonic()
        try:
            yield started_at - arrived_at
        finally:
            self._durations.append(self._clock.monotonic() - started_at)
            self._release()

    async def _acquire(self, priority: Priority) -> None:
        if self.running < self.parallel and not self._waiters:
            self.running += 1
            return
        preempt = self._preemptible.pop() if self._preemptible else None
        if preempt is None and len(self._waiters) >= self._max_queue:
            last = max(self._waiters, default=None)
            if last is None or last.priority <= priority:
                raise self._overloaded(priority)
            self._waiters.remove(last)
            last.admitted.set_exception(self._overloaded(last.priority))
        future = asyncio.get_running_loop().create_future()
        waiter = _Waiter(priority, next(self._arrivals), future)
        self._waiters.append(waiter)
        if preempt is not None:
            preempt()  # the freed slot goes to the first waiter
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.admitted.cancelled() and waiter.admitted.exception() is None:
                self._release()  # the slot was granted at the moment of cancellation
            raise

    def _release(self) -> None:
        while self._waiters:
            first = min(self._waiters)
            self._waiters.remove(first)
            if not first.admitted.done():  # a cancelled waiter may not have removed itself yet
                first.admitted.set_result(None)
                return
        self.running -= 1

    def _overloaded(self, priority: Priority) -> InferenceError:
        estimate = self.estimate(priority)
        when = "in a moment" if estimate.seconds is None else f"in about {estimate.seconds:.0f} s"
        return InferenceError(
            f"The models are busy and the queue is full (requests waiting: {self.waiting}). "
            f"Try again {when}.",
            code=ErrorCode.OVERLOADED,
            details={"position": estimate.position, "wait": estimate.seconds},
        )

    # --- Preemptible work ---------------------------------------------------------------------

    def try_acquire_idle_slot(self, preempt: Callable[[], None]) -> bool:
        """Take an idle slot for preemptible work, unless a call is waiting. Return True on success.

        `preempt` is called at most once, when a call needs the slot. Even then, the caller must
        give the slot back with `release_idle_slot`.
        """
        if self.running >= self.parallel or self._waiters:
            return False
        self.running += 1
        self._preemptible.append(preempt)
        return True

    def release_idle_slot(self, preempt: Callable[[], None]) -> None:
        """Give back a slot taken with `try_acquire_idle_slot`, whether it was preempted or not."""
        if preempt in self._preemptible:
            self._preemptible.remove(preempt)
        self._release()
