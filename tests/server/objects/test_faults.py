"""Disks that are full or broken: nothing leaves early, the error is typed, and it passes."""

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
from tests.support.databases import damage
from tests.support.faults import Fault, Faults, Operation, broken, full
from tests.support.loop import asynchronous
from tests.support.objects import alive, call_to, in_time, join

BIG = 4 * 1024 * 1024
"""Letters that SQLite does not keep in memory until the commit."""

COMMIT = [
    pytest.param("write", "-wal", full, id="write-ENOSPC"),
    pytest.param("write", "-wal", broken, id="write-EIO"),
    pytest.param("sync", "-wal", full, id="sync-ENOSPC"),
    pytest.param("sync", "-wal", broken, id="sync-EIO"),
]
"""What can go wrong in a commit."""


class Note(DurableObject):
    """Keeps what it is sent, and tells its room how many notes there are."""

    migrations: ClassVar[tuple[str, ...]] = ("CREATE TABLE notes (text TEXT NOT NULL);",)
    rung: ClassVar[list[str]] = []

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        self.context.broadcast(Caption(text=f"{self.add(str(message))} notes"))
        self.context.send(connection, Accepted(id=str(message)[:20]))

    def add(self, text: str) -> int:
        self.context.storage.sql("INSERT INTO notes VALUES (?)", text)
        return len(self.notes())

    def notes(self) -> list[str]:
        return [str(row[0])[:20] for row in self.context.storage.sql("SELECT text FROM notes")]

    def remind(self, text: str, after: float) -> None:
        self.add(text)
        self.context.set_alarm(self.context.clock.now() + after)

    def on_alarm(self, retry_count: int) -> None:
        self.add("rang")
        self.context.spawn(self._ring, "ring")

    async def _ring(self) -> None:
        Note.rung.append(self.context.name)

    def pass_on(self, text: str) -> None:
        self.add(text)
        self.context.tell(call_to(Note, "other", Note.add, text))

    def remove(self) -> None:
        self.context.tell(call_to(Note, "other", Note.add, f"{self.context.name} is gone"))
        self.context.destroy()


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture(autouse=True)
def _nothing_rang() -> None:
    Note.rung.clear()


def refused(error: pytest.ExceptionInfo[PrepServerError]) -> None:
    """What whoever asked is told when the disk fails."""
    assert isinstance(error.value, StorageError)
    assert (error.value.code, error.value.status, error.value.retryable) == ("storage", 503, True)


@pytest.mark.parametrize(("operation", "file", "fault"), COMMIT)
@asynchronous
async def test_a_commit_that_fails_lets_nothing_out_and_keeps_nothing(
    tmp_path: Path, faults: Faults, operation: Operation, file: str, fault: Fault
) -> None:
    """Sender and room get the typed error and nothing else, as often as it is tried; then the
    object works again, without what failed."""
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        asking = join(registry, Note, "a", Connection("asking"))
        beside = join(registry, Note, "a", Connection("beside"))
        await asking.send("kept")
        await beside.next(Caption)
        faults.fail(operation, file, fault)
        for number in range(3):
            await asking.send(f"lost {number}")
            for client in (asking, beside):
                failure = await client.next(Failure)
                assert (failure.code, failure.retryable) == ("storage", True)
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.pass_on, "lost as well"))
        refused(caught)
        assert faults.hits >= 4
        faults.mend()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        await asking.send("kept too")
        await beside.until(lambda m: m == Caption(text="2 notes"))
        assert await registry.call(call_to(Note, "other", Note.notes)) == []
        captions = [m.text for m in beside.messages if isinstance(m, Caption)]
    assert captions == ["1 notes", "2 notes"]
    assert damage(tmp_path) == []


@pytest.mark.parametrize("fault", [full, broken], ids=["ENOSPC", "EIO"])
@asynchronous
async def test_a_write_that_fails_within_a_handler_undoes_all_of_it(
    tmp_path: Path, faults: Faults, fault: Fault
) -> None:
    """Much of a large transaction is written before its commit; also there nothing is kept of it,
    and no event that shares the transaction is half applied."""
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        client = join(registry, Note, "a", Connection("c"))
        await client.send("kept")
        faults.fail("write", "-wal", fault)
        instance = registry.instance("Note", "a")
        sent = ["before", "x" * BIG, "after"]
        outcomes = await asyncio.gather(
            *(instance.deliver(client.connection, one) for one in sent), return_exceptions=True
        )
        assert all(isinstance(outcome, StorageError) for outcome in outcomes)
        faults.mend()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        assert [m for m in client.messages if isinstance(m, Accepted)] == [Accepted(id="kept")]
        await client.send("after")
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept", "after"]


@pytest.mark.parametrize("operation", ["open", "write", "sync", "read"])
@asynchronous
async def test_a_room_that_cannot_be_opened_is_a_typed_error(
    tmp_path: Path, faults: Faults, operation: Operation
) -> None:
    """Whoever enters is told and sent away to try again; no other room is touched."""
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "kept"))
        await registry.call(call_to(Note, "b", Note.add, "kept"))
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        assert await registry.call(call_to(Note, "b", Note.notes)) == ["kept"]
        name = registry.instance("Note", "a").path.name
        faults.fail(operation, name)
        # Reading an object that is there needs no write, so a new one is tried for those.
        room = "a" if operation in ("open", "read") else "new"
        faults.fail(operation, registry.instance("Note", room).path.name)
        client = join(registry, Note, room, Connection("c"))
        failure = await client.next(Failure)
        assert (failure.code, failure.retryable) == ("storage", True)
        assert (await client.wait_closed()).code == 1011
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, room, Note.notes))
        refused(caught)
        assert await registry.call(call_to(Note, "b", Note.add, "more")) == 2
        faults.mend()
        assert await registry.call(call_to(Note, room, Note.notes)) == (
            ["kept"] if room == "a" else []
        )
        assert await registry.call(call_to(Note, room, Note.add, "again")) > 0


@asynchronous
async def test_a_read_that_fails_is_a_typed_error_and_passes(
    tmp_path: Path, faults: Faults
) -> None:
    """What a handler reads comes from the disk whole, or not at all."""
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "x" * BIG))
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        client = join(registry, Note, "a", Connection("c"))
        await registry.instance("Note", "a").wait_for_handlers()
        faults.fail("read", ".sqlite")
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.notes))
        refused(caught)
        assert (await client.next(Failure)).code == ErrorCode.STORAGE
        faults.mend()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["x" * 20]


@pytest.mark.parametrize(("operation", "file", "fault"), COMMIT)
@asynchronous
async def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, faults: Faults, operation: Operation, file: str, fault: Fault
) -> None:
    """The schema stays as it was, with all that is in it, until the disk takes the next one."""

    class Note2(Note):
        migrations = (
            *Note.migrations,
            "ALTER TABLE notes ADD COLUMN size INTEGER; UPDATE notes SET size = length(text);",
        )

        def sizes(self) -> list[tuple[str, int]]:
            return self.context.storage.sql("SELECT text, size FROM notes")

    Note2.__name__ = "Note"
    async with alive(tmp_path, Note, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "kept"))
    async with alive(tmp_path, Note2, vfs=faults.name) as registry:
        faults.fail(operation, file, fault)
        for _ in range(2):
            with pytest.raises(PrepServerError) as caught:
                await registry.call(call_to(Note2, "a", Note2.sizes))
            refused(caught)
        faults.mend()
        assert await registry.call(call_to(Note2, "a", Note2.sizes)) == [("kept", 4)]


@pytest.mark.parametrize("operation", ["open", "write", "sync", "read"])
@asynchronous
async def test_a_registry_whose_index_cannot_be_opened_does_not_start(
    tmp_path: Path, faults: Faults, operation: Operation
) -> None:
    """The error is typed and gives the data directory back, so that the next start can succeed."""
    clock = ManualClock()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.remind, "kept", 5.0))
    faults.fail(operation, "alarms.sqlite")
    for _ in range(2):
        with pytest.raises(PrepServerError) as caught:
            async with alive(tmp_path, Note, clock=clock, vfs=faults.name):
                pass
        refused(caught)
    faults.mend()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name):
        await in_time(clock, lambda: Note.rung == ["a"])


@pytest.mark.parametrize("mended", ["while it runs", "before the next start"])
@asynchronous
async def test_a_file_that_cannot_be_read_at_the_start_hides_its_alarm_no_longer_than_that(
    tmp_path: Path, faults: Faults, mended: str
) -> None:
    """An index that was filled without it is not taken for whole."""
    clock = ManualClock()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        for name in ("a", "b"):
            await registry.call(call_to(Note, name, Note.remind, "kept", 10.0))
        file = registry.instance("Note", "a").path.name
    for path in tmp_path.glob("alarms.sqlite*"):  # noqa: ASYNC240 - nobody else is here
        path.unlink()
    faults.fail("read", file)
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name):
        await in_time(clock, lambda: Note.rung == ["b"])
        if mended == "while it runs":
            faults.mend()
            await in_time(clock, lambda: Note.rung == ["b", "a"])
    faults.mend()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name):
        await in_time(clock, lambda: Note.rung == ["b", "a"])


@asynchronous
async def test_an_alarm_that_the_index_cannot_take_is_not_set(
    tmp_path: Path, faults: Faults
) -> None:
    """An object and its alarm stand or fall together."""
    clock = ManualClock()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.add, "kept"))
        faults.fail("write", "alarms.sqlite", full)
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.remind, "lost", 5.0))
        refused(caught)
        faults.mend()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        await clock.advance(10)
        await registry.wait_for_handlers()
        assert Note.rung == []
        await registry.call(call_to(Note, "a", Note.remind, "kept too", 5.0))
        await in_time(clock, lambda: Note.rung == ["a"])


@pytest.mark.parametrize(("operation", "file", "fault"), COMMIT)
@asynchronous
async def test_an_alarm_rings_once_although_its_commits_failed(
    tmp_path: Path, faults: Faults, operation: Operation, file: str, fault: Fault
) -> None:
    """It is tried again until its effect is stored, and then no more."""
    clock = ManualClock()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.remind, "later", 5.0))
        faults.fail(operation, file, fault)
        await in_time(clock, lambda: faults.hits >= 3)
        assert faults.hits >= 3
        assert Note.rung == []
        faults.mend()
        await in_time(clock, lambda: Note.rung == ["a"])
        for _ in range(30):
            await clock.advance(1)
            await registry.wait_for_handlers()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["later", "rang"]


@asynchronous
async def test_an_object_that_cannot_be_removed_is_not_forgotten(
    tmp_path: Path, faults: Faults
) -> None:
    """Nobody is told that it is gone, it can be asked again, and then it is gone."""
    clock = ManualClock()
    async with alive(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        await registry.call(call_to(Note, "a", Note.remind, "kept", 1_000.0))
        path = registry.instance("Note", "a").path
        faults.fail("write", "alarms.sqlite")
        await registry.call(call_to(Note, "a", Note.remove))
        await registry.wait_for_handlers()
        assert path.exists()
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["kept"]
        assert await registry.call(call_to(Note, "other", Note.notes)) == []
        faults.mend()
        await registry.call(call_to(Note, "a", Note.remove))
        await registry.wait_for_handlers()
        assert not path.exists()

    async with alive(tmp_path, Note, clock=clock, vfs=faults.name) as registry:
        assert await registry.call(call_to(Note, "other", Note.notes)) == ["a is gone"]


# --- Damaged files --------------------------------------------------------------------------------


async def two_rooms(root: Path, clock: ManualClock | None = None) -> Path:
    """Fills rooms `a` and `b`, closes everything, and gives the path of `a`'s file."""
    async with alive(root, Note, clock=clock) as registry:
        for name in ("a", "b"):
            await registry.call(call_to(Note, name, Note.add, "x" * 100_000))
            await registry.call(call_to(Note, name, Note.remind, f"{name} is kept", 60.0))
        return registry.instance("Note", "a").path


def rubbish_first(content: bytes) -> bytes:
    return b"no database" * 400 + content[4_400:]


def rubbish_inside(content: bytes) -> bytes:
    return content[:4_096] + b"\xff" * (len(content) - 4_096)


def torn(content: bytes) -> bytes:
    return content[: len(content) // 3]


def half_a_page(content: bytes) -> bytes:
    return content[:2_000]


@pytest.mark.parametrize("harm", [rubbish_first, rubbish_inside, torn, half_a_page])
@asynchronous
async def test_a_damaged_file_takes_nobody_else_down(tmp_path: Path, harm: Any) -> None:
    """Its room gives a typed error, its file stays for whoever can mend it, the others go on."""
    path = await two_rooms(tmp_path)
    content = path.read_bytes()
    path.write_bytes(harm(content))
    async with alive(tmp_path, Note) as registry:
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Note, "a", Note.notes))
        assert (caught.value.code, caught.value.status) == ("storage", 503)
        client = join(registry, Note, "a", Connection("c"))
        await client.send("more")
        failure = await client.next(Failure)
        assert failure.code == ErrorCode.STORAGE
        assert await registry.call(call_to(Note, "b", Note.notes)) == ["x" * 20, "b is kept"]
    path.write_bytes(content)
    async with alive(tmp_path, Note) as registry:
        assert await registry.call(call_to(Note, "a", Note.notes)) == ["x" * 20, "a is kept"]


@pytest.mark.parametrize("harm", [rubbish_first, rubbish_inside, torn, half_a_page, None])
@asynchronous
async def test_a_damaged_index_is_filled_from_the_objects(tmp_path: Path, harm: Any) -> None:
    """Every alarm rings all the same, also beside an object whose own file is damaged."""
    clock = ManualClock()
    path = await two_rooms(tmp_path, clock)
    index = tmp_path / "alarms.sqlite"
    content = index.read_bytes()
    index.unlink()
    if harm is not None:
        index.write_bytes(harm(content))
        path.write_bytes(harm(path.read_bytes()))
    async with alive(tmp_path, Note, clock=clock) as registry:
        expected = ["a", "b"] if harm is None else ["b"]
        await in_time(clock, lambda: sorted(Note.rung) == expected, seconds=70)
        assert sorted(Note.rung) == expected
        assert "rang" in await registry.call(call_to(Note, "b", Note.notes))
