"""Whose calls they are, and what they have cost."""

import asyncio
from typing import Protocol

from prepserver.telemetry.calls import Call
from prepserver.wire.protocol import Quota

__all__ = ["Limiter", "Spending", "UsageMeter"]


class Limiter(Protocol):
    """Counts requests. `charge` raises RateLimited."""

    async def charge(self, user: str, request: str) -> Quota: ...
    async def quota(self, user: str) -> Quota: ...


class Spending(Protocol):
    """Counts what calls cost. `check` raises RateLimited."""

    async def check(self, user: str) -> None: ...
    async def spend(self, user: str, *, tokens: int = 0, seconds: float = 0.0) -> None: ...


class UsageMeter:
    """Asks before a call, and counts after it."""

    def __init__(self, limiter: Limiter, spending: Spending | None) -> None:
        self._limiter = limiter
        self._spending = spending
        self._bills: set[asyncio.Task[None]] = set()

    async def quota(self, user: str) -> Quota:
        """Requests that a user may still make."""
        return await self._limiter.quota(user)

    async def charge(self, call: Call) -> None:
        """Count a request, once for its name. Raises RateLimited, also when what earlier calls
        have cost leaves nothing."""
        if self._spending is not None:
            await self._spending.check(call.user)
        await self._limiter.charge(call.user, call.request)

    async def bill(self, user: str, tokens: int, seconds: float) -> None:
        """Count what a call has cost, to the end even when the call is cancelled meanwhile."""
        if self._spending is None:
            return
        bill = asyncio.create_task(self._spending.spend(user, tokens=tokens, seconds=seconds))
        self._bills.add(bill)
        bill.add_done_callback(self._bills.discard)
        await asyncio.shield(bill)

    async def close(self) -> None:
        """Wait until everything is counted."""
        await asyncio.gather(*self._bills, return_exceptions=True)
