"""Databases on full and broken disks: failed writes have no effect, errors are typed, and the
databases recover."""

import errno
import stat
from pathlib import Path

import apsw
import pytest

from prepserver.accounts.budgets import Budgets, BudgetUsage
from prepserver.accounts.rate_limits import RateLimiter
from prepserver.accounts.users import Users
from prepserver.errors import PrepServerError, StorageError
from prepserver.storage.sqlite import CorruptDatabase, open_database, set_aside, to_storage_error
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Quota
from tests.support.clock import ManualClock
from tests.support.faults import Fault, Faults, Operation, disk_full, io_error
from tests.support.loop import asynchronous

COMMIT = [
    pytest.param("write", disk_full, id="write-ENOSPC"),
    pytest.param("write", io_error, id="write-EIO"),
    pytest.param("sync", disk_full, id="sync-ENOSPC"),
    pytest.param("sync", io_error, id="sync-EIO"),
]
"""Disk faults that make a commit fail, as test parameters."""


@pytest.fixture
def faults() -> Faults:
    return Faults()


def limiter(folder: Path, clock: ManualClock, faults: Faults) -> RateLimiter:
    path = folder / "ratelimit.sqlite"
    return RateLimiter(path, clock, limit=3, window=3_600.0, vfs=faults.name)


def assert_storage_error(error: pytest.ExceptionInfo[PrepServerError]) -> None:
    """Assert that the error is the retryable `storage` error."""
    assert isinstance(error.value, StorageError)
    assert (error.value.code, error.value.status, error.value.retryable) == (
        ErrorCode.STORAGE,
        503,
        True,
    )


@pytest.mark.parametrize("reopened", [False, True], ids=["goes-on", "reopened"])
@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize(("operation", "fault"), COMMIT)
@asynchronous
async def test_a_request_that_cannot_be_stored_is_not_counted(
    tmp_path: Path,
    faults: Faults,
    operation: Operation,
    fault: Fault,
    before: int,
    reopened: bool,
) -> None:
    """Charging a request that cannot be stored raises `storage` and changes neither the quota nor
    its window."""
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
        assert_storage_error(caught)
    assert faults.injected >= 2
    if reopened:
        limits.close()
    faults.repair()
    if reopened:
        limits = limiter(tmp_path, clock, faults)
    assert await limits.quota("u") == stood
    await clock.advance(10)
    quota = await limits.charge("u", "lost 0")
    assert quota == Quota(limit=3, remaining=2 - before, reset=stood.reset or clock.now() + 3_600.0)
    limits.close()


@asynchronous
async def test_a_quota_that_cannot_be_read_raises_a_typed_error(
    tmp_path: Path, faults: Faults
) -> None:
    """Reading a quota on a broken disk raises `storage` instead of reporting an unused quota."""
    clock = ManualClock()
    limits = limiter(tmp_path, clock, faults)
    await limits.charge("u", "r")
    limits.close()
    limits = limiter(tmp_path, clock, faults)
    faults.fail("read")
    with pytest.raises(PrepServerError) as caught:
        await limits.quota("u")
    assert_storage_error(caught)
    faults.repair()
    assert (await limits.quota("u")).remaining == 2
    limits.close()


@pytest.mark.parametrize("operation", ["open", "write", "sync"])
@asynchronous
async def test_a_database_that_cannot_be_opened_raises_a_typed_error(
    tmp_path: Path, faults: Faults, operation: Operation
) -> None:
    """Opening a database raises `storage` while the disk is broken, and succeeds once the disk is
    repaired."""
    clock = ManualClock()
    faults.fail(operation)
    for _ in range(2):
        with pytest.raises(PrepServerError) as caught:
            limiter(tmp_path, clock, faults)
        assert_storage_error(caught)
    faults.repair()
    limits = limiter(tmp_path, clock, faults)
    assert (await limits.charge("u", "r")).remaining == 2
    limits.close()


@pytest.mark.parametrize(("operation", "fault"), COMMIT)
@asynchronous
async def test_spending_that_cannot_be_stored_is_not_counted(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """Spending that cannot be stored is not counted in a budget, but later spending is counted."""
    clock = ManualClock()
    path = tmp_path / "budgets.sqlite"
    store = Budgets(path, clock, tokens=100, window=3_600.0, vfs=faults.name)
    await store.spend("u", tokens=10)
    reset = clock.now() + 3_600.0
    faults.fail(operation, "-wal", fault)
    with pytest.raises(PrepServerError) as caught:
        await store.spend("u", tokens=20)
    assert_storage_error(caught)
    faults.repair()
    assert await store.usage("u") == BudgetUsage(tokens=10, reset=reset)
    await store.spend("u", tokens=30)
    assert await store.usage("u") == BudgetUsage(tokens=40, reset=reset)
    store.close()


@pytest.mark.parametrize(("operation", "fault"), COMMIT)
def test_a_user_that_cannot_be_stored_does_not_exist(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """If storing a new user fails, the user's name stays free after the database is reopened."""
    path = tmp_path / "users.sqlite"
    users = Users(path, ManualClock(), vfs=faults.name)
    users.add("ada")
    faults.fail(operation, "-wal", fault)
    with pytest.raises(PrepServerError) as caught:
        users.add("bob")
    assert_storage_error(caught)
    users.close()
    faults.repair()
    users = Users(path, ManualClock(), vfs=faults.name)
    assert [user.name for user in users.list()] == ["ada"]
    users.add("bob")
    users.close()


# --- Opening --------------------------------------------------------------------------------------


def test_the_options_of_a_new_database(tmp_path: Path) -> None:
    """`open_database` uses WAL mode and synchronous=FULL by default, and applies every option that
    is given."""
    path = tmp_path / "a.sqlite"
    connection = open_database(path, private=True, exclusive=True, incremental_vacuum=True)
    connection.execute("CREATE TABLE numbers (n)")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("locking_mode") == "exclusive"
    assert connection.pragma("auto_vacuum") == 2
    assert not path.with_name("a.sqlite-shm").exists()
    connection.close()
    connection = open_database(path, durable=False, busy_timeout=5.0)
    assert connection.pragma("synchronous") == 1
    assert connection.pragma("busy_timeout") == 5_000
    connection.close()


@pytest.mark.parametrize(("create", "read_only"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("private", [False, True])
def test_a_missing_database_is_not_created(
    tmp_path: Path, create: bool, read_only: bool, private: bool
) -> None:
    """With `create=False` or `read_only=True`, opening a missing database raises a typed error and
    creates no file."""
    with pytest.raises(StorageError, match=r"a\.sqlite"):
        open_database(tmp_path / "a.sqlite", create=create, read_only=read_only, private=private)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (disk_full(), "The server's disk is full, and nothing was changed. Free space"),
        (OSError(errno.ENOSPC, "No space"), "The server's disk is full, and nothing was changed."),
        (OSError(errno.EDQUOT, "Quota"), "The server's disk is full, and nothing was changed."),
        (io_error(), "The server's disk failed (disk I/O error), and nothing was changed."),
        (OSError(errno.EIO, "Input/output error"), "The server's disk failed (Input/output error)"),
    ],
)
def test_the_message_fits_reading_and_writing(error: Exception, said: str) -> None:
    """A failure of the disk is reported without a word on whether it was read or written, and a
    full disk is named."""
    assert to_storage_error(error).message.startswith(said)


def test_a_read_only_database_rejects_writes(tmp_path: Path) -> None:
    """A read-only connection can read while another connection is open for writing, and rejects
    writes."""
    path = tmp_path / "a.sqlite"
    writer = open_database(path)
    writer.execute("CREATE TABLE numbers (n); INSERT INTO numbers VALUES (1)")
    reader = open_database(path, read_only=True)
    assert reader.execute("SELECT n FROM numbers").fetchall() == [(1,)]
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("INSERT INTO numbers VALUES (2)")
    reader.close()
    writer.close()


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    """Opening a damaged database raises CorruptDatabase, and `set_aside` keeps the file under
    another name."""
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(CorruptDatabase):
        open_database(path)
    assert set_aside(path).read_bytes() == b"not a database" * 1_000
    open_database(path).close()
