"""Usage accounting: rate limits and budgets of the users whose calls reach the models."""

import asyncio
from typing import Protocol

from prepserver.telemetry.calls import Call
from prepserver.wire.protocol import Quota

__all__ = ["RequestLimiter", "UsageBudget", "UsageMeter"]


class RequestLimiter(Protocol):
    """Limit on the number of requests. `charge` raises RateLimited if no request is left."""

    async def charge(self, user: str, request: str) -> Quota: ...
    async def quota(self, user: str) -> Quota: ...


class UsageBudget(Protocol):
    """Limit on tokens and compute time. `check` raises RateLimited if the limit is used up."""

    async def check(self, user: str) -> None: ...
    async def spend(self, user: str, *, tokens: int = 0, seconds: float = 0.0) -> None: ...


class UsageMeter:
    """Meter that checks a user's limits before a call and records the usage after the call."""

    def __init__(self, limiter: RequestLimiter, budget: UsageBudget | None) -> None:
        self._limiter = limiter
        self._budget = budget
        self._recordings: set[asyncio.Task[None]] = set()

    async def quota(self, user: str) -> Quota:
        """Return the user's quota of requests."""
        return await self._limiter.quota(user)

    async def charge_request(self, call: Call) -> None:
        """Charge the user for a request. A retry under the same request name is not charged again.

        Raises RateLimited if no requests or no budget remain.
        """
        if self._budget is not None:
            await self._budget.check(call.user)
        await self._limiter.charge(call.user, call.request)

    async def record_usage(self, user: str, tokens: int, seconds: float) -> None:
        """Deduct tokens and compute seconds from the user's budget, if there is one.

        The deduction completes even if the caller is cancelled.
        """
        if self._budget is None:
            return
        recording = asyncio.create_task(self._budget.spend(user, tokens=tokens, seconds=seconds))
        self._recordings.add(recording)
        recording.add_done_callback(self._recordings.discard)
        await asyncio.shield(recording)

    async def close(self) -> None:
        """Wait until all pending deductions are complete."""
        await asyncio.gather(*self._recordings, return_exceptions=True)
