"""Alarms: firing once and on time, retries, and survival of crashes and of a lost index."""

import asyncio
import itertools
import shutil
import threading
from pathlib import Path

import apsw
import pytest

from prepserver.errors import BadRequest, PrepServerError, StorageError
from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.object import Context, DurableObject
from prepserver.objects.registry import Registry
from prepserver.objects.storage import Alarm, Storage, read_stored_alarm
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.objects import call_to, eventually, start_registry

START = ManualClock().now()


class Bell(DurableObject):
    """Object that records when its alarm fires. The handler raises `error` the first `failures`
    times."""

    fired: list[tuple[float, int]]
    """Seconds since `START` and retry count of each firing, for all bells together."""
    failures = 0
    error: Exception = RuntimeError("cracked")
    repeat_after: float | None = None

    def __init__(self, context: Context) -> None:
        super().__init__(context)

    def set_alarm(self, seconds: float | None) -> float | None:
        if seconds is None:
            self.context.delete_alarm()
        else:
            self.context.set_alarm(self.context.clock.now() + seconds)
        return self.context.get_alarm()

    def set_alarm_and_fail(self, seconds: float) -> None:
        self.set_alarm(seconds)
        raise BadRequest("rejected")

    def get_alarm(self) -> float | None:
        return self.context.get_alarm()

    def do_nothing(self) -> None:
        return

    def on_alarm(self, retry_count: int) -> None:
        Bell.fired.append((self.context.clock.now() - START, retry_count))
        assert self.context.get_alarm() is None, "the alarm must be deleted before its handler runs"
        if Bell.failures:
            Bell.failures -= 1
            raise Bell.error
        if Bell.repeat_after is not None:
            self.context.set_alarm(self.context.clock.now() + Bell.repeat_after)
            Bell.repeat_after = None


@pytest.fixture(autouse=True)
def _reset_bell() -> None:
    Bell.fired, Bell.failures, Bell.error, Bell.repeat_after = [], 0, RuntimeError("cracked"), None


async def wait_for_alarms(registry: Registry, name: str = "a") -> None:
    """Wait until the alarms that have fired are handled."""
    await eventually(lambda: not registry._detached)
    await registry.call(call_to(Bell, name, Bell.do_nothing))


async def advance(clock: ManualClock, registry: Registry, seconds: float) -> None:
    """Advance the clock in steps of 0.25 seconds, waiting after each step until due alarms are
    handled."""
    for _ in range(int(seconds * 4)):
        await clock.advance(0.25)
        await wait_for_alarms(registry)


@asynchronous
async def test_an_alarm_fires_once_at_its_time(tmp_path: Path) -> None:
    """An alarm fires within a second after it is due, and only once."""
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        assert await registry.call(call_to(Bell, "a", Bell.set_alarm, 30)) == START + 30
        await advance(clock, registry, 29)
        assert Bell.fired == []
        await advance(clock, registry, 2)
        assert await registry.call(call_to(Bell, "a", Bell.get_alarm)) is None
        await advance(clock, registry, 60)
        [(at, retry)] = Bell.fired
        assert 30 <= at <= 31
        assert retry == 0


@pytest.mark.parametrize(("first", "second"), [(5, 20), (20, 5)])
@asynchronous
async def test_a_new_alarm_replaces_the_earlier_one(
    tmp_path: Path, first: float, second: float
) -> None:
    """Setting an alarm replaces the earlier alarm, whether the new alarm is due sooner or later."""
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, first))
        await registry.call(call_to(Bell, "a", Bell.set_alarm, second))
        await advance(clock, registry, 30)
        [(at, _)] = Bell.fired
        assert second <= at <= second + 1


@asynchronous
async def test_a_deleted_alarm_does_not_fire(tmp_path: Path) -> None:
    """A deleted alarm never fires."""
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 5))
        assert await registry.call(call_to(Bell, "a", Bell.set_alarm, None)) is None
        await advance(clock, registry, 10)
        assert Bell.fired == []


@asynchronous
async def test_an_alarm_set_in_its_own_handler_fires_again(tmp_path: Path) -> None:
    """An alarm that is set in an alarm handler fires on time."""
    Bell.repeat_after = 4
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 2))
        await advance(clock, registry, 12)
        assert [round(at) for at, _ in Bell.fired] == [2, 6]


@pytest.mark.parametrize("error", [RuntimeError("cracked"), BadRequest("no")])
@asynchronous
async def test_a_failing_alarm_is_retried_six_times(tmp_path: Path, error: Exception) -> None:
    """A failing alarm is retried six times, after 2, 4, 8, 16, 32 and 64 seconds, and is then
    abandoned."""
    Bell.failures, Bell.error = 100, error
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 1))
        await advance(clock, registry, 300)
        assert [retry for _, retry in Bell.fired] == [0, 1, 2, 3, 4, 5, 6]
        times = [at for at, _ in Bell.fired]
        waits = [round(b - a) for a, b in itertools.pairwise(times)]
        assert waits == [2, 4, 8, 16, 32, 64]
        assert await registry.call(call_to(Bell, "a", Bell.get_alarm)) is None


@asynchronous
async def test_a_retry_that_succeeds_is_the_last(tmp_path: Path) -> None:
    """An alarm that fails twice and then succeeds is not retried again."""
    Bell.failures = 2
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 1))
        await advance(clock, registry, 60)
        assert [retry for _, retry in Bell.fired] == [0, 1, 2]


@asynchronous
async def test_an_alarm_survives_a_restart(tmp_path: Path) -> None:
    """An alarm fires on time even if the registry is restarted after the alarm was set."""
    async with start_registry(tmp_path, Bell) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 30))
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await advance(clock, registry, 31)
        assert [round(at) for at, _ in Bell.fired] == [30]


@asynchronous
async def test_an_overdue_alarm_fires_after_the_start(tmp_path: Path) -> None:
    """Alarms that fell due while the server was stopped fire within five seconds of the next
    start."""
    async with start_registry(tmp_path, Bell) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 30))
        await registry.call(call_to(Bell, "b", Bell.set_alarm, 40))
    clock = ManualClock(START + 3_600)
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await advance(clock, registry, 5)
        assert len(Bell.fired) == 2


@pytest.mark.parametrize("damage", ["lost", "damaged", "half filled"])
@asynchronous
async def test_a_lost_index_is_rebuilt_from_the_objects(tmp_path: Path, damage: str) -> None:
    """If the alarm index is lost, damaged or incomplete, the alarms are read from the objects'
    files."""
    async with start_registry(tmp_path, Bell) as registry:
        for name in ("a", "b", "c"):
            await registry.call(call_to(Bell, name, Bell.set_alarm, 30))
        await registry.call(call_to(Bell, "silent", Bell.get_alarm))
    _break_index(tmp_path / "alarms.sqlite", damage)
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await advance(clock, registry, 31)
        assert [round(at) for at, _ in Bell.fired] == [30, 30, 30]


def _break_index(index: Path, damage: str) -> None:
    match damage:
        case "lost":
            index.unlink()
        case "damaged":
            index.write_bytes(b"not a database" * 1_000)
        case "half filled":  # by a process that was killed during the rebuild
            connection = apsw.Connection(str(index))
            connection.execute("DELETE FROM alarms WHERE name != 'a'")
            connection.pragma("user_version", 0)
            connection.close()


@pytest.mark.parametrize("first", [None, 30])
@asynchronous
async def test_a_failed_commit_never_makes_the_index_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: float | None
) -> None:
    """If the commit of a new alarm fails, the new alarm does not fire, and an alarm that was stored
    earlier fires at its own time."""

    def fail(storage: Storage) -> None:
        raise StorageError("the disk is full")

    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        if first is not None:
            await registry.call(call_to(Bell, "a", Bell.set_alarm, first))
        for seconds in (10, 60, None):
            with monkeypatch.context() as patch:
                patch.setattr(Storage, "commit", fail)
                with pytest.raises(PrepServerError):
                    await registry.call(call_to(Bell, "a", Bell.set_alarm, seconds))
        with pytest.raises(BadRequest):
            await registry.call(call_to(Bell, "a", Bell.set_alarm_and_fail, 5))
        await advance(clock, registry, 62)
        assert [round(at) for at, _ in Bell.fired] == ([] if first is None else [30])


@asynchronous
async def test_a_failed_index_write_after_the_commit_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call succeeds and its alarm fires on time even if the index write after the commit
    fails."""

    def fail(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 5))
        with monkeypatch.context() as patch:
            patch.setattr(AlarmIndex, "write", fail)
            assert await registry.call(call_to(Bell, "a", Bell.set_alarm, 20)) == START + 20
        await advance(clock, registry, 25)
        assert [round(at) for at, _ in Bell.fired] == [20]


@asynchronous
async def test_an_alarm_set_in_its_handler_fires_despite_a_failed_index_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm that is set in an alarm handler fires on time even if the index write fails."""

    def fail(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    Bell.repeat_after = 4
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 2))
        with monkeypatch.context() as patch:
            patch.setattr(AlarmIndex, "write", fail)
            await advance(clock, registry, 3)
        await advance(clock, registry, 5)
        assert [round(at) for at, _ in Bell.fired] == [2, 6]


@asynchronous
async def test_a_crash_between_commit_and_index_write_loses_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash between a commit and its index write, new and changed alarms fire on time, and
    deleted alarms do not fire."""
    with monkeypatch.context() as patch:
        async with start_registry(tmp_path, Bell) as registry:
            for name in ("sooner", "later", "deleted"):
                await registry.call(call_to(Bell, name, Bell.set_alarm, 20))
            patch.setattr(AlarmIndex, "update", lambda *_: None)
            for name, seconds in (("first", 5), ("sooner", 10), ("later", 30), ("deleted", None)):
                await registry.call(call_to(Bell, name, Bell.set_alarm, seconds))
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await advance(clock, registry, 40)
        assert [round(at) for at, _ in Bell.fired] == [5, 10, 30]


@asynchronous
async def test_a_retry_does_not_overwrite_an_alarm_set_in_the_meantime(
    tmp_path: Path,
) -> None:
    """An alarm set between a handler's failure and the scheduling of the retry is not overwritten
    by the retry."""
    Bell.failures = 1
    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 1))
        clock.jump(1.1)
        instance = registry.instance("Bell", "a")
        firing = asyncio.create_task(instance.fire_alarm())
        await asyncio.sleep(0)
        setting = instance.call("set_alarm", (30,))
        await asyncio.gather(firing, setting)
        assert await registry.call(call_to(Bell, "a", Bell.get_alarm)) == START + 31.1


@asynchronous
async def test_an_unreachable_object_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the retry of an alarm cannot be stored, the alarm fires again after five seconds."""

    def fail(storage: Storage) -> None:
        raise StorageError("the disk is full")

    clock = ManualClock()
    async with start_registry(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.set_alarm, 1))
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "commit", fail)
            await advance(clock, registry, 20)
            attempts = len(Bell.fired)
            assert 2 <= attempts <= 6
        await advance(clock, registry, 6)
        assert len(Bell.fired) == attempts + 1
        assert await registry.call(call_to(Bell, "a", Bell.get_alarm)) is None


def test_popping_alarms_never_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Due alarms can be popped from the index while another thread is writing the index to the
    disk."""
    index = AlarmIndex(tmp_path / "alarms.sqlite", boot="1")
    index.write("Bell", "a", 5.0)
    with index._disk_lock:  # as `write` does while it waits for the disk
        found: list[tuple[str, str]] = []
        popping = threading.Thread(
            target=lambda: found.extend(index.pop_due_alarms(10.0)), daemon=True
        )
        popping.start()
        popping.join(10)
        assert found == [("Bell", "a")]
    index.close()


def test_the_index_returns_each_entry_once_and_in_order(tmp_path: Path) -> None:
    """`pop_due_alarms` returns each due entry once and in order of time, and omits removed
    entries."""
    index = AlarmIndex(tmp_path / "alarms.sqlite", boot="1")
    index.write("Bell", "late", 9.0)
    index.write("Bell", "early", 1.0)
    index.lower("Bell", "late", 5.0)
    index.write("Bell", "late", 5.0)
    index.lower("Bell", "late", 8.0)
    index.write("Bell", "gone", 2.0)
    index.remove("Bell", "gone")
    assert index.pop_due_alarms(0.5) == []
    assert index.pop_due_alarms(6.0) == [("Bell", "early"), ("Bell", "late")]
    assert index.pop_due_alarms(100.0) == []
    index.close()


@pytest.mark.parametrize(
    ("closed", "before", "after", "complete"),
    [
        (False, "one", "one", True),
        (False, "one", "two", False),
        (False, "", "", False),
        (True, "one", "two", True),
        (True, "", "", True),
    ],
)
def test_the_index_is_trusted_if_nothing_can_be_lost(
    tmp_path: Path, closed: bool, before: str, after: str, complete: bool
) -> None:
    """When a complete index is reopened, the index counts as complete if it was closed, or if the
    machine's boot id is known and unchanged."""
    path = tmp_path / "alarms.sqlite"
    index = AlarmIndex(path, boot=before)
    assert not index.complete
    index.rebuild([("Bell", "a", 1.0)])
    index.write("Bell", "b", 2.0)
    if closed:
        index.close()
    else:
        for file in list(tmp_path.iterdir()):  # as a killed process leaves them
            shutil.copy(file, file.with_name(f"left-{file.name}"))
        path = tmp_path / "left-alarms.sqlite"
    again = AlarmIndex(path, boot=after)
    assert again.complete is complete
    assert again.pop_due_alarms(9.0) == ([("Bell", "a"), ("Bell", "b")] if complete else [])
    again.close()


def test_an_interrupted_rebuild_is_repeated(tmp_path: Path) -> None:
    """An index whose rebuild was not completed before the process was killed counts as
    incomplete."""
    path = tmp_path / "alarms.sqlite"
    first = AlarmIndex(path, boot="one")
    first.rebuild([("Bell", "a", 1.0)])
    first._connection.close()  # killed
    second = AlarmIndex(path, boot="two")
    assert not second.complete
    second._connection.close()  # killed again, before the rebuild
    third = AlarmIndex(path, boot="two")
    assert not third.complete
    third.close()


def test_the_alarm_is_read_from_a_closed_file(tmp_path: Path) -> None:
    """`read_stored_alarm` reads an object's name and alarm from the database file without waking
    the object."""
    storage = Storage(tmp_path / "one.sqlite", "some/name", ())
    storage.set_alarm(12.5, 3)
    storage.commit()
    storage.close()
    stored = read_stored_alarm(tmp_path / "one.sqlite")
    assert stored == ("some/name", Alarm(due=12.5, retry_count=3))
