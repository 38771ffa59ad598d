"""Rate limits: exact under concurrency and across restarts."""

import asyncio
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.errors import RateLimited
from prepserver.wire.protocol import Quota
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

DAY = 86_400.0


def open_limiter(folder: Path, clock: ManualClock, limit: int = 3) -> RateLimiter:
    return RateLimiter(folder / "ratelimit.sqlite", clock, limit=limit, window=DAY)


@asynchronous
async def test_the_window_opens_with_the_first_request(tmp_path: Path) -> None:
    """A window opens with the first request, not when the quota is read."""
    clock = ManualClock()
    limits = open_limiter(tmp_path, clock)
    assert await limits.quota("u") == Quota(limit=3, remaining=3)
    await clock.advance(100)
    assert await limits.charge("u", "r1") == Quota(limit=3, remaining=2, reset=clock.now() + DAY)
    assert (await limits.quota("u")).remaining == 2
    limits.close()


@asynchronous
async def test_requests_over_the_limit_are_rejected(
    tmp_path: Path,
) -> None:
    """A request over the limit is rejected with the time of the reset; other users are not
    affected."""
    clock = ManualClock()
    limits = open_limiter(tmp_path, clock)
    for number in range(3):
        await limits.charge("u", f"r{number}")
    with pytest.raises(RateLimited) as caught:
        await limits.charge("u", "r3")
    assert caught.value.details == {"limit": 3, "remaining": 0, "reset": clock.now() + DAY}
    assert await limits.quota("u") == Quota(limit=3, remaining=0, reset=clock.now() + DAY)
    assert (await limits.charge("v", "r")).remaining == 2
    limits.close()


@asynchronous
async def test_concurrent_requests_are_counted_exactly(tmp_path: Path) -> None:
    """Exactly twenty of fifty concurrent requests pass a limit of twenty."""
    limits = open_limiter(tmp_path, ManualClock(), limit=20)
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
    """A repeated request is charged once, and passes even if no requests are left."""
    limits = open_limiter(tmp_path, ManualClock(), limit=2)
    quotas = await asyncio.gather(*(limits.charge("u", "same") for _ in range(10)))
    assert {quota.remaining for quota in quotas} == {1}
    await limits.charge("u", "other")
    assert (await limits.charge("u", "same")).remaining == 0
    limits.close()


@asynchronous
async def test_the_window_ends_exactly_at_its_reset(tmp_path: Path) -> None:
    """A window ends exactly at its reset, and the next request opens a new window."""
    clock = ManualClock()
    limits = open_limiter(tmp_path, clock, limit=1)
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
    """Requests charged before a restart count after the restart and are not charged again."""
    clock = ManualClock()
    first = open_limiter(tmp_path, clock)
    quota = await first.charge("u", "r1")
    first.close()
    second = open_limiter(tmp_path, clock)
    assert await second.quota("u") == quota
    assert (await second.charge("u", "r1")).remaining == 2
    second.close()


@asynchronous
async def test_a_limit_of_zero_disables_the_limit(tmp_path: Path) -> None:
    """If the limit is 0, no request is rejected."""
    limits = open_limiter(tmp_path, ManualClock(), limit=0)
    for number in range(5):
        assert await limits.charge("u", f"r{number}") == Quota(limit=0, remaining=0)
    assert await limits.quota("u") == Quota(limit=0, remaining=0)
    limits.close()
