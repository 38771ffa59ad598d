"""How many model requests a user may make: exact, under concurrency and across restarts."""

import asyncio
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.errors import RateLimited
from prepserver.wire.protocol import Quota
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

DAY = 86_400.0


def limiter(folder: Path, clock: ManualClock, limit: int = 3) -> RateLimiter:
    return RateLimiter(folder / "ratelimit.sqlite", clock, limit=limit, window=DAY)


@asynchronous
async def test_the_window_opens_with_the_first_request(tmp_path: Path) -> None:
    """Before it nothing is counted and there is no reset; asking costs nothing."""
    clock = ManualClock()
    limits = limiter(tmp_path, clock)
    assert await limits.quota("u") == Quota(limit=3, remaining=3)
    await clock.advance(100)
    assert await limits.charge("u", "r1") == Quota(limit=3, remaining=2, reset=clock.now() + DAY)
    assert (await limits.quota("u")).remaining == 2
    limits.close()


@asynchronous
async def test_the_request_over_the_limit_is_refused_with_the_time_of_the_reset(
    tmp_path: Path,
) -> None:
    """The error carries what a client needs to wait for."""
    clock = ManualClock()
    limits = limiter(tmp_path, clock)
    for number in range(3):
        await limits.charge("u", f"r{number}")
    with pytest.raises(RateLimited) as caught:
        await limits.charge("u", "r3")
    assert caught.value.details == {"limit": 3, "remaining": 0, "reset": clock.now() + DAY}
    assert await limits.quota("u") == Quota(limit=3, remaining=0, reset=clock.now() + DAY)
    assert (await limits.charge("somebody else", "r")).remaining == 2
    limits.close()


@asynchronous
async def test_fifty_requests_at_once_are_counted_exactly(tmp_path: Path) -> None:
    """Of fifty with an allowance of twenty, twenty pass, whatever the order."""
    limits = limiter(tmp_path, ManualClock(), limit=20)
    outcomes = await asyncio.gather(
        *(limits.charge("u", f"r{number}") for number in range(50)), return_exceptions=True
    )
    passed = [outcome for outcome in outcomes if isinstance(outcome, Quota)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, RateLimited)]
    assert (len(passed), len(refused)) == (20, 30)
    assert sorted(quota.remaining for quota in passed) == list(range(20))
    limits.close()


@asynchronous
async def test_the_same_request_is_charged_once(tmp_path: Path) -> None:
    """A turn taken up again after a crash costs nothing more, even with nothing left."""
    limits = limiter(tmp_path, ManualClock(), limit=2)
    quotas = await asyncio.gather(*(limits.charge("u", "same") for _ in range(10)))
    assert {quota.remaining for quota in quotas} == {1}
    await limits.charge("u", "other")
    assert (await limits.charge("u", "same")).remaining == 0
    limits.close()


@asynchronous
async def test_the_window_ends_exactly_at_its_reset(tmp_path: Path) -> None:
    """A moment before it is still closed; at it, a new one opens with the next request."""
    clock = ManualClock()
    limits = limiter(tmp_path, clock, limit=1)
    reset = (await limits.charge("u", "r1")).reset
    assert reset is not None
    await clock.advance(DAY - 1)
    with pytest.raises(RateLimited):
        await limits.charge("u", "r2")
    await clock.advance(1)
    assert clock.now() == reset
    assert await limits.quota("u") == Quota(limit=1, remaining=1)
    await clock.advance(50)
    assert await limits.charge("u", "r2") == Quota(limit=1, remaining=0, reset=clock.now() + DAY)
    limits.close()


@asynchronous
async def test_the_count_survives_a_restart(tmp_path: Path) -> None:
    """What was used in one process is used in the next."""
    clock = ManualClock()
    first = limiter(tmp_path, clock)
    quota = await first.charge("u", "r1")
    first.close()
    second = limiter(tmp_path, clock)
    assert await second.quota("u") == quota
    assert (await second.charge("u", "r1")).remaining == 2
    second.close()


@asynchronous
async def test_a_limit_of_zero_counts_nothing(tmp_path: Path) -> None:
    """A private server refuses nobody."""
    limits = limiter(tmp_path, ManualClock(), limit=0)
    for number in range(5):
        assert await limits.charge("u", f"r{number}") == Quota(limit=0, remaining=0)
    assert await limits.quota("u") == Quota(limit=0, remaining=0)
    limits.close()
