"""Disks that are full or broken: nothing is counted that is not stored, and it passes."""

from pathlib import Path

import pytest

from prepserver.accounts.budgets import Budgets, BudgetUsage
from prepserver.accounts.rate_limits import RateLimiter
from prepserver.accounts.users import Users
from prepserver.errors import PrepServerError, StorageError
from prepserver.wire.protocol import Quota
from tests.support.clock import ManualClock
from tests.support.faults import Fault, Faults, Operation, broken, full
from tests.support.loop import asynchronous

COMMIT = [
    pytest.param("write", full, id="write-ENOSPC"),
    pytest.param("write", broken, id="write-EIO"),
    pytest.param("sync", full, id="sync-ENOSPC"),
    pytest.param("sync", broken, id="sync-EIO"),
]
"""What can go wrong in a commit."""


@pytest.fixture
def faults() -> Faults:
    return Faults()


def limiter(folder: Path, clock: ManualClock, faults: Faults) -> RateLimiter:
    path = folder / "ratelimit.sqlite"
    return RateLimiter(path, clock, limit=3, window=3_600.0, vfs=faults.name)


def refused(error: pytest.ExceptionInfo[PrepServerError]) -> None:
    """What whoever asked is told."""
    assert isinstance(error.value, StorageError)
    assert (error.value.code, error.value.status, error.value.retryable) == ("storage", 503, True)


@pytest.mark.parametrize("reopened", [False, True], ids=["goes-on", "reopened"])
@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize(("operation", "fault"), COMMIT)
@asynchronous
async def test_a_request_that_cannot_be_counted_is_not(
    tmp_path: Path,
    faults: Faults,
    operation: Operation,
    fault: Fault,
    before: int,
    reopened: bool,
) -> None:
    """The error is typed, as often as it is tried; then as many may be made as before, and a window
    that could not be stored was not opened."""
    clock = ManualClock()
    limits = limiter(tmp_path, clock, faults)
    for number in range(before):
        await limits.charge("u", f"kept {number}")
    stood = await limits.quota("u")
    await clock.advance(10)
    faults.fail(operation, "-wal", fault)
    for number in range(2):
        with pytest.raises(PrepServerError) as caught:
            await limits.charge("u", f"lost {number}")
        refused(caught)
    assert faults.hits >= 2
    if reopened:
        limits.close()
    faults.mend()
    if reopened:
        limits = limiter(tmp_path, clock, faults)
    assert await limits.quota("u") == stood
    await clock.advance(10)
    quota = await limits.charge("u", "lost 0")
    assert quota == Quota(limit=3, remaining=2 - before, reset=stood.reset or clock.now() + 3_600.0)
    limits.close()


@asynchronous
async def test_a_quota_that_cannot_be_read_is_a_typed_error(tmp_path: Path, faults: Faults) -> None:
    """Not one that looks whole."""
    clock = ManualClock()
    limits = limiter(tmp_path, clock, faults)
    await limits.charge("u", "r")
    limits.close()
    limits = limiter(tmp_path, clock, faults)
    faults.fail("read")
    with pytest.raises(PrepServerError) as caught:
        await limits.quota("u")
    refused(caught)
    faults.mend()
    assert (await limits.quota("u")).remaining == 2
    limits.close()


@pytest.mark.parametrize("operation", ["open", "write", "sync"])
@asynchronous
async def test_a_limit_that_cannot_be_opened_is_a_typed_error(
    tmp_path: Path, faults: Faults, operation: Operation
) -> None:
    """And can be opened when the fault is gone."""
    clock = ManualClock()
    faults.fail(operation)
    for _ in range(2):
        with pytest.raises(PrepServerError) as caught:
            limiter(tmp_path, clock, faults)
        refused(caught)
    faults.mend()
    limits = limiter(tmp_path, clock, faults)
    assert (await limits.charge("u", "r")).remaining == 2
    limits.close()


@pytest.mark.parametrize(("operation", "fault"), COMMIT)
@asynchronous
async def test_what_cannot_be_counted_of_a_budget_is_not(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """The same rules, for tokens and seconds."""
    clock = ManualClock()
    path = tmp_path / "budgets.sqlite"
    store = Budgets(path, clock, tokens=100, window=3_600.0, vfs=faults.name)
    await store.spend("u", tokens=10)
    reset = clock.now() + 3_600.0
    faults.fail(operation, "-wal", fault)
    with pytest.raises(PrepServerError) as caught:
        await store.spend("u", tokens=20)
    refused(caught)
    faults.mend()
    assert await store.usage("u") == BudgetUsage(tokens=10, reset=reset)
    await store.spend("u", tokens=30)
    assert await store.usage("u") == BudgetUsage(tokens=40, reset=reset)
    store.close()


@pytest.mark.parametrize(("operation", "fault"), COMMIT)
def test_a_user_who_cannot_be_stored_is_none(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """The key of a user whose row was refused opens nothing, and the name is still free."""
    path = tmp_path / "users.sqlite"
    users = Users(path, ManualClock(), vfs=faults.name)
    users.add("ada")
    faults.fail(operation, "-wal", fault)
    with pytest.raises(PrepServerError) as caught:
        users.add("bob")
    refused(caught)
    users.close()
    faults.mend()
    users = Users(path, ManualClock(), vfs=faults.name)
    assert [user.name for user in users.list()] == ["ada"]
    users.add("bob")
    users.close()
