"""Budgets of tokens and model time: exact counts, stored on disk."""

import asyncio
from pathlib import Path

import pytest

from prepserver.accounts.budgets import Budgets, BudgetUsage
from prepserver.errors import RateLimited
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

HOUR = 3_600.0


def open_budgets(
    tmp_path: Path, clock: ManualClock, tokens: int = 0, seconds: float = 0.0
) -> Budgets:
    return Budgets(tmp_path / "budgets.sqlite", clock, tokens=tokens, seconds=seconds, window=HOUR)


@pytest.mark.parametrize(
    ("name", "tokens", "seconds"), [("tokens", 100, 0.0), ("seconds", 0, 100.0)]
)
@asynchronous
async def test_a_spent_budget_rejects_calls_until_the_window_ends(
    tmp_path: Path, name: str, tokens: int, seconds: float
) -> None:
    """A spent budget rejects the user's calls until the window ends, and the error gives the limit,
    the usage and the time of the reset."""
    clock = ManualClock()
    store = open_budgets(tmp_path, clock, tokens, seconds)
    await store.spend("u", tokens=99, seconds=99.0)
    await store.check("u")
    await store.spend("u", tokens=5, seconds=5.0)
    with pytest.raises(RateLimited) as caught:
        await store.check("u")
    assert caught.value.code == ErrorCode.BUDGET_SPENT
    reset = clock.now() + HOUR
    assert caught.value.details == {"budget": name, "limit": 100, "used": 104, "reset": reset}
    await store.check("v")
    await clock.advance(HOUR - 1)
    with pytest.raises(RateLimited):
        await store.check("u")
    await clock.advance(1)
    await store.check("u")
    assert await store.usage("u") == BudgetUsage()
    await store.spend("u", tokens=1)
    assert await store.usage("u") == BudgetUsage(tokens=1, reset=clock.now() + HOUR)
    store.close()


@asynchronous
async def test_concurrent_usage_is_counted_exactly(tmp_path: Path) -> None:
    """Each of a hundred concurrent updates of a user's usage is counted."""
    store = open_budgets(tmp_path, ManualClock(), tokens=1_000_000)
    await asyncio.gather(*(store.spend("u", tokens=n, seconds=0.5) for n in range(100)))
    spent = await store.usage("u")
    assert (spent.tokens, spent.seconds) == (4_950, 50.0)
    store.close()


@asynchronous
async def test_usage_survives_a_restart(tmp_path: Path) -> None:
    """Usage before a restart counts against the budget after the restart."""
    clock = ManualClock()
    first = open_budgets(tmp_path, clock, tokens=10)
    await first.spend("u", tokens=10)
    first.close()
    second = open_budgets(tmp_path, clock, tokens=10)
    with pytest.raises(RateLimited):
        await second.check("u")
    second.close()


@asynchronous
async def test_without_budgets_nothing_is_counted(tmp_path: Path) -> None:
    """Without budgets, no call is rejected, and no usage is stored."""
    store = open_budgets(tmp_path, ManualClock())
    await store.spend("u", tokens=10**9, seconds=1e9)
    await store.check("u")
    assert await store.usage("u") == BudgetUsage()
    store.close()
