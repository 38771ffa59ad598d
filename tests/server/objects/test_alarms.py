"""One alarm for each object: stored with its state, fired at least once, found again."""

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
from tests.support.objects import alive, call_to, eventually

START = ManualClock().now()


class Bell(DurableObject):
    """Rings when its alarm fires; `fail` times it raises instead."""

    rung: list[tuple[float, int]]
    """Of all bells: seconds since the start, and the retry count."""
    failures = 0
    error: Exception = RuntimeError("cracked")
    again: float | None = None

    def __init__(self, context: Context) -> None:
        super().__init__(context)

    def wind(self, seconds: float | None) -> float | None:
        if seconds is None:
            self.context.delete_alarm()
        else:
            self.context.set_alarm(self.context.clock.now() + seconds)
        return self.context.get_alarm()

    def wind_and_fail(self, seconds: float) -> None:
        self.wind(seconds)
        raise BadRequest("changed my mind")

    def due(self) -> float | None:
        return self.context.get_alarm()

    def nothing(self) -> None:
        return

    def on_alarm(self, retry_count: int) -> None:
        Bell.rung.append((self.context.clock.now() - START, retry_count))
        assert self.context.get_alarm() is None, "while it fires there is no alarm"
        if Bell.failures:
            Bell.failures -= 1
            raise Bell.error
        if Bell.again is not None:
            self.context.set_alarm(self.context.clock.now() + Bell.again)
            Bell.again = None


@pytest.fixture(autouse=True)
def _silence() -> None:
    Bell.rung, Bell.failures, Bell.error, Bell.again = [], 0, RuntimeError("cracked"), None


async def settled(registry: Registry, name: str = "a") -> None:
    """Wait until what was fired is done: the mailbox is in order."""
    await eventually(lambda: not registry._detached)
    await registry.call(call_to(Bell, name, Bell.nothing))


async def pass_seconds(clock: ManualClock, registry: Registry, seconds: float) -> None:
    """Quarter by quarter, each with all that it leads to."""
    for _ in range(int(seconds * 4)):
        await clock.advance(0.25)
        await settled(registry)


@asynchronous
async def test_an_alarm_fires_once_at_its_time(tmp_path: Path) -> None:
    """Not before, within a second after, and then there is none."""
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        assert await registry.call(call_to(Bell, "a", Bell.wind, 30)) == START + 30
        await pass_seconds(clock, registry, 29)
        assert Bell.rung == []
        await pass_seconds(clock, registry, 2)
        assert await registry.call(call_to(Bell, "a", Bell.due)) is None
        await pass_seconds(clock, registry, 60)
        [(at, retry)] = Bell.rung
        assert 30 <= at <= 31
        assert retry == 0


@pytest.mark.parametrize(("first", "second"), [(5, 20), (20, 5)])
@asynchronous
async def test_a_new_alarm_replaces_the_earlier_one(
    tmp_path: Path, first: float, second: float
) -> None:
    """Whether it is later or sooner, only the last one set fires."""
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, first))
        await registry.call(call_to(Bell, "a", Bell.wind, second))
        await pass_seconds(clock, registry, 30)
        [(at, _)] = Bell.rung
        assert second <= at <= second + 1


@asynchronous
async def test_a_deleted_alarm_does_not_fire(tmp_path: Path) -> None:
    """After delete there is nothing to wait for."""
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 5))
        assert await registry.call(call_to(Bell, "a", Bell.wind, None)) is None
        await pass_seconds(clock, registry, 10)
        assert Bell.rung == []


@asynchronous
async def test_an_alarm_set_in_its_own_handler_fires_again(tmp_path: Path) -> None:
    """A handler may wind the alarm up anew."""
    Bell.again = 4
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 2))
        await pass_seconds(clock, registry, 12)
        assert [round(at) for at, _ in Bell.rung] == [2, 6]


@pytest.mark.parametrize("error", [RuntimeError("cracked"), BadRequest("no")])
@asynchronous
async def test_a_failing_alarm_is_retried_after_2_s_doubling_six_times(
    tmp_path: Path, error: Exception
) -> None:
    """Each try knows its number; after the sixth retry the alarm is left."""
    Bell.failures, Bell.error = 100, error
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 1))
        await pass_seconds(clock, registry, 300)
        assert [retry for _, retry in Bell.rung] == [0, 1, 2, 3, 4, 5, 6]
        times = [at for at, _ in Bell.rung]
        waits = [round(b - a) for a, b in itertools.pairwise(times)]
        assert waits == [2, 4, 8, 16, 32, 64]
        assert await registry.call(call_to(Bell, "a", Bell.due)) is None


@asynchronous
async def test_a_retry_that_succeeds_is_the_last(tmp_path: Path) -> None:
    """Two failures, then done."""
    Bell.failures = 2
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 1))
        await pass_seconds(clock, registry, 60)
        assert [retry for _, retry in Bell.rung] == [0, 1, 2]


@asynchronous
async def test_an_alarm_survives_a_restart(tmp_path: Path) -> None:
    """What was set in one process fires in the next."""
    async with alive(tmp_path, Bell) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 30))
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await pass_seconds(clock, registry, 31)
        assert [round(at) for at, _ in Bell.rung] == [30]


@asynchronous
async def test_an_alarm_that_fell_due_while_down_fires_at_the_start(tmp_path: Path) -> None:
    """Nobody has to ask, and five seconds are enough."""
    async with alive(tmp_path, Bell) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 30))
        await registry.call(call_to(Bell, "b", Bell.wind, 40))
    clock = ManualClock(START + 3_600)
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await pass_seconds(clock, registry, 5)
        assert len(Bell.rung) == 2


@pytest.mark.parametrize("harm", ["lost", "damaged", "half filled"])
@asynchronous
async def test_a_lost_index_is_made_again_from_the_objects(tmp_path: Path, harm: str) -> None:
    """The truth is in the objects: without a good index it is read from there."""
    async with alive(tmp_path, Bell) as registry:
        for name in ("a", "b", "c"):
            await registry.call(call_to(Bell, name, Bell.wind, 30))
        await registry.call(call_to(Bell, "silent", Bell.due))
    _harm(tmp_path / "alarms.sqlite", harm)
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await pass_seconds(clock, registry, 31)
        assert [round(at) for at, _ in Bell.rung] == [30, 30, 30]


def _harm(index: Path, harm: str) -> None:
    match harm:
        case "lost":
            index.unlink()
        case "damaged":
            index.write_bytes(b"this is no database" * 1_000)
        case "half filled":  # as when the process was killed while it made the index anew
            connection = apsw.Connection(str(index))
            connection.execute("DELETE FROM alarms WHERE name != 'a'")
            connection.pragma("user_version", 0)
            connection.close()


@pytest.mark.parametrize("first", [None, 30])
@asynchronous
async def test_a_commit_that_fails_leaves_the_index_no_later_than_the_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: float | None
) -> None:
    """An alarm that was not saved may be looked for in vain, but the saved one is never missed."""

    def refuse(storage: Storage) -> None:
        raise StorageError("the disk is full")

    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        if first is not None:
            await registry.call(call_to(Bell, "a", Bell.wind, first))
        for seconds in (10, 60, None):
            with monkeypatch.context() as patch:
                patch.setattr(Storage, "commit", refuse)
                with pytest.raises(PrepServerError):
                    await registry.call(call_to(Bell, "a", Bell.wind, seconds))
        with pytest.raises(BadRequest):
            await registry.call(call_to(Bell, "a", Bell.wind_and_fail, 5))
        await pass_seconds(clock, registry, 62)
        assert [round(at) for at, _ in Bell.rung] == ([] if first is None else [30])


@asynchronous
async def test_an_index_that_cannot_be_written_after_the_commit_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm is durable already: the caller is told so, and it fires."""

    def refuse(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 5))
        with monkeypatch.context() as patch:
            patch.setattr(AlarmIndex, "write", refuse)
            assert await registry.call(call_to(Bell, "a", Bell.wind, 20)) == START + 20
        await pass_seconds(clock, registry, 25)
        assert [round(at) for at, _ in Bell.rung] == [20]


@asynchronous
async def test_an_alarm_set_in_its_handler_fires_though_the_index_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry that woke the object is used up, and the new one is remembered all the same."""

    def refuse(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    Bell.again = 4
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 2))
        with monkeypatch.context() as patch:
            patch.setattr(AlarmIndex, "write", refuse)
            await pass_seconds(clock, registry, 3)
        await pass_seconds(clock, registry, 5)
        assert [round(at) for at, _ in Bell.rung] == [2, 6]


@asynchronous
async def test_a_crash_between_the_commit_and_the_index_loses_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was set for the first time, sooner or later: after the restart it fires at its
    time, because an earlier time is in the index before the commit."""
    with monkeypatch.context() as patch:
        async with alive(tmp_path, Bell) as registry:
            for name in ("sooner", "later", "deleted"):
                await registry.call(call_to(Bell, name, Bell.wind, 20))
            patch.setattr(AlarmIndex, "update", lambda *_: None)
            for name, seconds in (("first", 5), ("sooner", 10), ("later", 30), ("deleted", None)):
                await registry.call(call_to(Bell, name, Bell.wind, seconds))
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await pass_seconds(clock, registry, 40)
        assert [round(at) for at, _ in Bell.rung] == [5, 10, 30]


@asynchronous
async def test_an_alarm_set_anew_after_a_failure_is_not_overwritten_by_the_retry(
    tmp_path: Path,
) -> None:
    """Who sets the alarm between the failure and the note of it has the last word."""
    Bell.failures = 1
    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 1))
        clock.jump(1.1)
        instance = registry.instance("Bell", "a")
        firing = asyncio.create_task(instance.fire_alarm())
        await asyncio.sleep(0)
        winding = instance.call("wind", (30,))
        await asyncio.gather(firing, winding)
        assert await registry.call(call_to(Bell, "a", Bell.due)) == START + 31.1


@asynchronous
async def test_an_object_that_cannot_be_reached_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When not even the retry can be noted, the alarm is not forgotten."""

    def refuse(storage: Storage) -> None:
        raise StorageError("the disk is full")

    clock = ManualClock()
    async with alive(tmp_path, Bell, clock=clock) as registry:
        await registry.call(call_to(Bell, "a", Bell.wind, 1))
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "commit", refuse)
            await pass_seconds(clock, registry, 20)
            tries = len(Bell.rung)
            assert 2 <= tries <= 6
        await pass_seconds(clock, registry, 6)
        assert len(Bell.rung) == tries + 1
        assert await registry.call(call_to(Bell, "a", Bell.due)) is None


def test_looking_for_alarms_never_waits_for_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop reads the index while another thread is still writing to it."""
    index = AlarmIndex(tmp_path / "alarms.sqlite", boot="1")
    index.write("Bell", "a", 5.0)
    with index._disk_lock:  # as `put` holds it while it waits for the disk
        found: list[tuple[str, str]] = []
        looking = threading.Thread(
            target=lambda: found.extend(index.pop_due_alarms(10.0)), daemon=True
        )
        looking.start()
        looking.join(10)
        assert found == [("Bell", "a")]
    index.close()


def test_the_index_gives_each_entry_once_and_in_order(tmp_path: Path) -> None:
    """Set twice is due once; the earliest comes first; dropped ones do not come."""
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
    ("closed", "before", "after", "filled"),
    [
        (False, "one", "one", True),
        (False, "one", "two", False),
        (False, "", "", False),
        (True, "one", "two", True),
        (True, "", "", True),
    ],
)
def test_the_index_is_trusted_only_as_long_as_nothing_of_it_can_be_lost(
    tmp_path: Path, closed: bool, before: str, after: str, filled: bool
) -> None:
    """It does not wait for the disk, so after a boot that it was not closed for it is filled anew;
    the death of the process alone costs nothing."""
    path = tmp_path / "alarms.sqlite"
    index = AlarmIndex(path, boot=before)
    assert not index.complete
    index.rebuild([("Bell", "a", 1.0)])
    index.write("Bell", "b", 2.0)
    if closed:
        index.close()
    else:
        for file in list(tmp_path.iterdir()):  # as a process that is killed leaves them
            shutil.copy(file, file.with_name(f"left-{file.name}"))
        path = tmp_path / "left-alarms.sqlite"
    again = AlarmIndex(path, boot=after)
    assert again.complete is filled
    assert again.pop_due_alarms(9.0) == ([("Bell", "a"), ("Bell", "b")] if filled else [])
    again.close()


def test_a_fill_that_was_cut_short_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """The process dies between emptying the index and filling it: it is filled next time."""
    path = tmp_path / "alarms.sqlite"
    first = AlarmIndex(path, boot="one")
    first.rebuild([("Bell", "a", 1.0)])
    first._connection.close()  # killed
    second = AlarmIndex(path, boot="two")
    assert not second.complete
    second._connection.close()  # killed again, before `fill`
    third = AlarmIndex(path, boot="two")
    assert not third.complete
    third.close()


def test_a_file_tells_its_name_and_alarm_without_being_woken(tmp_path: Path) -> None:
    """The index is made anew from closed files."""
    storage = Storage(tmp_path / "one.sqlite", "some/name", ())
    storage.set_alarm(12.5, 3)
    storage.commit()
    storage.close()
    stored = read_stored_alarm(tmp_path / "one.sqlite")
    assert stored == ("some/name", Alarm(due=12.5, retry_count=3))
