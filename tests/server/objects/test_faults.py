"""Full and broken disks: nothing is sent before it is durable, errors are typed, and the
objects recover."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pytest

from prepserver.errors import PrepServerError, StorageError
from prepserver.objects.connection import Connection
from prepserver.objects.object import DurableObject
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Accepted, Caption, Failure
from tests.support.clock import ManualClock
from tests.support.databases import find_corruption
from tests.support.faults import Fault, Faults, Operation, disk_full, io_error
from tests.support.loop import asynchronous
from tests.support.objects import advance_until, call_to, join, start_registry

BIG = 4 * 1024 * 1024
"""Length, in characters, of a text so long that SQLite writes to the disk before the commit."""

COMMIT = [
    pytest.param("write", "-wal", disk_full, id="write-ENOSPC"),
    pytest.param("write", "-wal", io_error, id="write-EIO"),
    pytest.param("sync", "-wal", disk_full, id="sync-ENOSPC"),
    pytest.param("sync", "-wal", io_error, id="sync-EIO"),
]
"""Disk faults that make a commit fail, as test parameters."""


class Note(DurableObject):
    """Object that stores the texts it receives and broadcasts how many it has."""

    migrations: ClassVar[tuple[str, ...]] = ("CREATE TABLE notes (text TEXT NOT NULL);",)
    fired: ClassVar[list[str]] = []

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        self.context.broadcast(Caption(text=f"{self.add(str(message))} notes"))
        self.context.send(connection, Accepted(id=str(message)[:20]))

    def add(self, text: str) -> int:
        self.context.storage.sql("INSERT INTO notes VALUES (?)", text)
        return len(self.notes())

    def notes(self) -> list[str]:
        return [str(row[0])[:20] for row in self.context.storage.sql("SELECT text FROM notes")]

    def set_reminder(self, text: str, after: float) -> None:
        self.add(text)
        self.context.set_alarm(self.context.clock.now() + after)

    def on_alarm(self, retry_count: int) -> None:
        self.add("fired")
        self.context.spawn(self._record, "record")

    async def _record(self) -> None:
        Note.fired.append(self.context.name)

    def add_and_tell(self, text: str) -> None:
        self.add(text)
        self.context.tell(call_to(Note, "other", Note.add, text))

    def remove(self) -> None:
        self.context.tell(call_to(Note, "other", Note.add, f"{self.context.name} is gone"))
        self.context.destroy()


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture(autouse=True)
def _reset_fired() -> None:
    Note.fired.clear()


def assert_storage_error(error: pytest.ExceptionInfo[PrepServerError]) -> None:
    """Assert that the error is the retryable `storage` error."""
    assert isinstance(error.value, StorageError)
    assert (error.value.code, error.value.status, error.value.retryable) == (
        ErrorCode.STORAGE,
        503,
        True,
    )


@pytest.mark.parametrize(("operation", "file", "fault"), COMMIT)
@asynchronous
async def test_a_failed_commit_sends_nothing_and_stores_nothing(
    tmp_path: Path, faults: Faults, operation: Operation, file: str, fault: Fault
) -> None:
    """While commits fail, every client in the room receives only the retryable `storage` error, and
    no failed write is stored."""
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        sender = join(registry, Note, "a", Connection("sender"))
        other = join(registry, Note, "a", Connection("other"))
        await sender.send("kept")
        await other.next(Caption)
        faults.fail(operation, file, fault)
        for number in range(3):
            await sender.send(f"lost {number}")
            for client in (sender, other):
                failure = await client.next(Failure)
                assert (failure.code, failure.retryable) == (ErrorCode.STORAGE, True)
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.add_and_tell, "lost as well"))
        assert_storage_error(caught)
        assert faults.injected >= 4
        faults.repair()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        await sender.send("kept too")
        await other.until(lambda m: m == Caption(text="2 notes"))
        assert await registry.call(call_to(Note, "other", Note.notes)) == []
        captions = [m.text for m in other.messages if isinstance(m, Caption)]
    assert captions == ["1 notes", "2 notes"]
    assert find_corruption(tmp_path) == []


@pytest.mark.parametrize("fault", [disk_full, io_error], ids=["ENOSPC", "EIO"])
@asynchronous
async def test_a_failed_write_in_a_handler_rolls_back_everything(
    tmp_path: Path, faults: Faults, fault: Fault
) -> None:
    """If a write to the disk fails before the commit of a large transaction, every event in the
    transaction fails and is rolled back."""
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        client = join(registry, Note, "a", Connection("c"))
        await client.send("kept")
        faults.fail("write", "-wal", fault)
        instance = registry.instance("Note", "a")
        sent = ["before", "x" * BIG, "after"]
        outcomes = await asyncio.gather(
            *(instance.deliver(client.connection, one) for one in sent), return_exceptions=True
        )
        assert all(isinstance(outcome, StorageError) for outcome in outcomes)
        faults.repair()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        assert [m for m in client.messages if isinstance(m, Accepted)] == [Accepted(id="kept")]
        await client.send("after")
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept", "after"]


@pytest.mark.parametrize("operation", ["open", "write", "sync", "read"])
@asynchronous
async def test_a_room_that_cannot_be_opened_raises_a_typed_error(
    tmp_path: Path, faults: Faults, operation: Operation
) -> None:
    """If a room cannot be opened, a connecting client receives a typed error and close code 1011,
    and other rooms keep working."""
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "kept"))
        await registry.call(call_to(Note, "b", Note.add, "kept"))
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        assert await registry.call(call_to(Note, "b", Note.notes)) == ["kept"]
        name = registry.instance("Note", "a").path.name
        faults.fail(operation, name)
        # Reading an existing object writes nothing, so these faults need a new one.
        room = "a" if operation in ("open", "read") else "new"
        faults.fail(operation, registry.instance("Note", room).path.name)
        client = join(registry, Note, room, Connection("c"))
        failure = await client.next(Failure)
        assert (failure.code, failure.retryable) == (ErrorCode.STORAGE, True)
        assert (await client.wait_closed()).code == 1011
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, room, Note.notes))
        assert_storage_error(caught)
        assert await registry.call(call_to(Note, "b", Note.add, "more")) == 2
        faults.repair()
        assert await registry.call(call_to(Note, room, Note.notes)) == (
            ["kept"] if room == "a" else []
        )
        assert await registry.call(call_to(Note, room, Note.add, "again")) > 0


@asynchronous
async def test_a_failed_read_raises_a_typed_error(tmp_path: Path, faults: Faults) -> None:
    """If a read fails, the call raises `storage`; the same call succeeds once the disk works
    again."""
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "x" * BIG))
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        client = join(registry, Note, "a", Connection("c"))
        await registry.instance("Note", "a").wait_for_handlers()
        faults.fail("read", ".sqlite")
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.notes))
        assert_storage_error(caught)
        assert (await client.next(Failure)).code == ErrorCode.STORAGE
        faults.repair()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["x" * 20]


@pytest.mark.parametrize(("operation", "file", "fault"), COMMIT)
@asynchronous
async def test_a_failed_migration_changes_nothing(
    tmp_path: Path, faults: Faults, operation: Operation, file: str, fault: Fault
) -> None:
    """If the commit of a migration fails, the schema and the data are unchanged, and the migration
    succeeds once the disk works again."""

    class Note2(Note):
        migrations = (
            *Note.migrations,
            "ALTER TABLE notes ADD COLUMN size INTEGER; UPDATE notes SET size = length(text);",
        )

        def sizes(self) -> list[tuple[str, int]]:
            return self.context.storage.sql("SELECT text, size FROM notes")

    Note2.__name__ = "Note"
    async with start_registry(tmp_path, Note, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "kept"))
    async with start_registry(tmp_path, Note2, vfs=faults.name) as registry:
        faults.fail(operation, file, fault)
        for _ in range(2):
            with pytest.raises(PrepServerError) as caught:
                await registry.call(call_to(Note2, "a", Note2.sizes))
            assert_storage_error(caught)
        faults.repair()
        assert await registry.call(call_to(Note2, "a", Note2.sizes)) == [("kept", 4)]


@pytest.mark.parametrize("operation", ["open", "write", "sync", "read"])
@asynchronous
async def test_a_registry_without_an_index_does_not_start(
    tmp_path: Path, faults: Faults, operation: Operation
) -> None:
    """If the alarm index cannot be read or written, starting the registry raises a typed error and
    releases the data directory."""
    clock = ManualClock()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.set_reminder, "kept", 5.0))
    faults.fail(operation, "alarms.sqlite")
    for _ in range(2):
        with pytest.raises(PrepServerError) as caught:
            async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name):
                pass
        assert_storage_error(caught)
    faults.repair()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name):
        await advance_until(clock, lambda: Note.fired == ["a"])


@pytest.mark.parametrize("repaired", ["while it runs", "before the next start"])
@asynchronous
async def test_an_alarm_in_an_unreadable_file_fires_later(
    tmp_path: Path, faults: Faults, repaired: str
) -> None:
    """If an object's file is unreadable while the alarm index is rebuilt, the object's alarm fires
    once the file is readable."""
    clock = ManualClock()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        for name in ("a", "b"):
            await registry.call(call_to(Note, name, Note.set_reminder, "kept", 10.0))
        file = registry.instance("Note", "a").path.name
    for path in tmp_path.glob("alarms.sqlite*"):  # noqa: ASYNC240 - nothing else runs
        path.unlink()
    faults.fail("read", file)
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name):
        await advance_until(clock, lambda: Note.fired == ["b"])
        if repaired == "while it runs":
            faults.repair()
            await advance_until(clock, lambda: Note.fired == ["b", "a"])
    faults.repair()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name):
        await advance_until(clock, lambda: Note.fired == ["b", "a"])


@asynchronous
async def test_a_failed_index_write_before_the_commit_fails_the_handler(
    tmp_path: Path, faults: Faults
) -> None:
    """If the alarm index cannot be written before the commit, neither the alarm nor the handler's
    other writes are stored."""
    clock = ManualClock()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "kept"))
        faults.fail("write", "alarms.sqlite", disk_full)
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.set_reminder, "lost", 5.0))
        assert_storage_error(caught)
        faults.repair()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        await clock.advance(10)
        await registry.wait_for_handlers()
        assert Note.fired == []
        await registry.call(call_to(Note, "a", Note.set_reminder, "kept too", 5.0))
        await advance_until(clock, lambda: Note.fired == ["a"])


@pytest.mark.parametrize(("operation", "file", "fault"), COMMIT)
@asynchronous
async def test_an_alarm_takes_effect_once_despite_failed_commits(
    tmp_path: Path, faults: Faults, operation: Operation, file: str, fault: Fault
) -> None:
    """If the commits of an alarm's handler fail, the alarm is retried, and the handler's effect is
    stored exactly once."""
    clock = ManualClock()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.set_reminder, "later", 5.0))
        faults.fail(operation, file, fault)
        await advance_until(clock, lambda: faults.injected >= 3)
        assert faults.injected >= 3
        assert Note.fired == []
        faults.repair()
        await advance_until(clock, lambda: Note.fired == ["a"])
        for _ in range(30):
            await clock.advance(1)
            await registry.wait_for_handlers()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["later", "fired"]


@asynchronous
async def test_a_failed_removal_can_be_repeated(tmp_path: Path, faults: Faults) -> None:
    """If the removal of an object fails, the object's calls are not sent and the object stays
    usable; a later removal succeeds."""
    clock = ManualClock()
    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.set_reminder, "kept", 1_000.0))
        path = registry.instance("Note", "a").path
        faults.fail("write", "alarms.sqlite")
        await registry.call(call_to(Note, "a", Note.remove))
        await registry.wait_for_handlers()
        assert path.exists()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        assert await registry.call(call_to(Note, "other", Note.notes)) == []
        faults.repair()
        await registry.call(call_to(Note, "a", Note.remove))
        await registry.wait_for_handlers()
        assert not path.exists()

    async with start_registry(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        assert await registry.call(call_to(Note, "other", Note.notes)) == ["a is gone"]


# --- Damaged files --------------------------------------------------------------------------------


async def two_rooms(root: Path, clock: ManualClock | None = None) -> Path:
    """Store two texts and an alarm in each of the rooms `a` and `b`; return the path of room `a`'s
    file."""
    async with start_registry(root, Note, clock=clock) as registry:
        for name in ("a", "b"):
            await registry.call(call_to(Note, name, Note.add, "x" * 100_000))
            await registry.call(call_to(Note, name, Note.set_reminder, f"{name} is kept", 60.0))
        return registry.instance("Note", "a").path


def overwrite_start(content: bytes) -> bytes:
    return b"no database" * 400 + content[4_400:]


def overwrite_pages(content: bytes) -> bytes:
    return content[:4_096] + b"\xff" * (len(content) - 4_096)


def truncate_to_a_third(content: bytes) -> bytes:
    return content[: len(content) // 3]


def truncate_within_a_page(content: bytes) -> bytes:
    return content[:2_000]


@pytest.mark.parametrize(
    "damage", [overwrite_start, overwrite_pages, truncate_to_a_third, truncate_within_a_page]
)
@asynchronous
async def test_a_damaged_file_affects_only_its_room(tmp_path: Path, damage: Any) -> None:
    """Calls to a room whose file is damaged raise `storage` until the file is restored; other rooms
    keep working."""
    path = await two_rooms(tmp_path)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    async with start_registry(tmp_path, Note) as registry:
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.notes))
        assert (caught.value.code, caught.value.status) == (ErrorCode.STORAGE, 503)
        client = join(registry, Note, "a", Connection("c"))
        await client.send("more")
        failure = await client.next(Failure)
        assert failure.code == ErrorCode.STORAGE
        assert await registry.call(call_to(Note, "b", Note.notes)) == ["x" * 20, "b is kept"]
    path.write_bytes(content)
    async with start_registry(tmp_path, Note) as registry:
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["x" * 20, "a is kept"]


@pytest.mark.parametrize(
    "damage", [overwrite_start, overwrite_pages, truncate_to_a_third, truncate_within_a_page, None]
)
@asynchronous
async def test_a_damaged_index_is_rebuilt_from_the_objects(tmp_path: Path, damage: Any) -> None:
    """If the alarm index is missing or damaged, every alarm in an undamaged object file fires."""
    clock = ManualClock()
    path = await two_rooms(tmp_path, clock)
    index = tmp_path / "alarms.sqlite"
    content = index.read_bytes()
    index.unlink()
    if damage is not None:
        index.write_bytes(damage(content))
        path.write_bytes(damage(path.read_bytes()))
    async with start_registry(tmp_path, Note, clock=clock) as registry:
        expected = ["a", "b"] if damage is None else ["b"]
        await advance_until(clock, lambda: sorted(Note.fired) == expected, seconds=70)
        assert sorted(Note.fired) == expected
        assert "fired" in await registry.call(call_to(Note, "b", Note.notes))
