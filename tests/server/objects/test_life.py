"""Life cycle of objects: waking, hibernation, destruction, and the shutdown of the registry."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import Conflict, NotFound, PrepServerError
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.objects.registry import Registry, RegistryCounts
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import CLOSE_RESTART, Caption
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.objects import (
    CommitGate,
    advance_until,
    call_to,
    eventually,
    join,
    start_registry,
)


class Diary(DurableObject):
    """Object that records events in memory and in its database."""

    migrations = ("CREATE TABLE lines (text TEXT NOT NULL);",)
    built = 0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        Diary.built += 1
        self.memory: list[str] = []

    def write(self, text: str) -> list[str]:
        self.memory.append(text)
        self.context.storage.sql("INSERT INTO lines VALUES (?)", text)
        return self.memory

    def stored(self) -> list[str]:
        return [row[0] for row in self.context.storage.sql("SELECT text FROM lines ORDER BY rowid")]

    def destroy(self) -> None:
        self.context.tell(call_to(Diary, "neighbour", Diary.write, "it is gone"))
        self.context.destroy()

    def greet(self, tag: str) -> list[tuple[str, Any]]:
        self.context.broadcast(Caption(text="good morning"), tag=tag)
        return [(each.id, each.state) for each in self.context.connections(tag)]

    def work(self, seconds: float) -> None:
        async def work_and_post() -> None:
            await self.context.clock.sleep(seconds)
            self.context.post("worked")

        self.context.spawn(work_and_post, "work")

    def on_event(self, event: object) -> None:
        self.write(str(event))

    def on_connect(self, connection: Connection) -> None:
        self.context.send(connection, Caption(text="welcome"))

    def on_close(self, connection: Connection) -> None:
        self.write(f"{connection.id} left")


@pytest.fixture(autouse=True)
def _reset_count() -> None:
    Diary.built = 0


@asynchronous
async def test_handlers_run_in_order_of_arrival(tmp_path: Path) -> None:
    """A hundred concurrent calls are handled one at a time, in order of arrival."""
    async with start_registry(tmp_path, Diary) as registry:
        calls = [registry.call(call_to(Diary, "a", Diary.write, str(n))) for n in range(100)]
        await asyncio.gather(*calls)
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == [
            str(n) for n in range(100)
        ]


@asynchronous
async def test_concurrent_events_wake_an_object_once(tmp_path: Path) -> None:
    """Two hundred concurrent calls to an object that is not in memory build one instance."""
    async with start_registry(tmp_path, Diary) as registry:
        await asyncio.gather(
            *(registry.call(call_to(Diary, "a", Diary.stored)) for _ in range(200))
        )
        assert Diary.built == 1


@asynchronous
async def test_names_are_never_paths(tmp_path: Path) -> None:
    """An object whose name has slashes and dots is stored in the data directory, and no two names
    share a file."""
    async with start_registry(tmp_path / "data", Diary) as registry:
        for name in ("../../escape", "/etc/passwd", "a/b", "a b", "ü", ""):
            await registry.call(call_to(Diary, name, Diary.write, name))
        for name in ("../../escape", "/etc/passwd", "a/b", "a b", "ü", ""):
            assert await registry.call(call_to(Diary, name, Diary.stored)) == [name]
    assert _names(tmp_path) == ["data"]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@asynchronous
async def test_events_wait_for_on_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that wakes an object completes only after the transaction of `on_start` is durable."""

    class Starting(Diary):
        def on_start(self) -> None:
            self.write("started")

    async with start_registry(tmp_path, Starting) as registry:
        gate = CommitGate(monkeypatch, "a")
        call = asyncio.create_task(registry.call(call_to(Starting, "a", Starting.write, "called")))
        await asyncio.to_thread(gate.reached.wait, 10)
        assert not call.done()
        gate.open()
        assert await call == ["started", "called"]


@pytest.mark.parametrize("kind_of_error", [RuntimeError, Conflict])
@asynchronous
async def test_a_failed_start_is_repeated_by_the_next_event(
    tmp_path: Path, kind_of_error: type[Exception]
) -> None:
    """When `on_start` raises, nothing is stored, and the next event starts the object again."""
    fails = [True]

    class Stubborn(Diary):
        def on_start(self) -> None:
            self.write("started")
            if fails.pop() if fails else False:
                raise kind_of_error("not yet")

    async with start_registry(tmp_path, Stubborn) as registry:
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Stubborn, "a", Stubborn.stored))
        instance = registry.instance("Stubborn", "a")
        await eventually(lambda: instance.removable)
        assert await registry.call(call_to(Stubborn, "a", Stubborn.stored)) == ["started"]


@asynchronous
async def test_an_idle_object_is_released_and_woken_again(tmp_path: Path) -> None:
    """An instance without connections is released after ten seconds without events, and the next
    event finds the stored state."""
    clock = ManualClock()
    async with start_registry(tmp_path, Diary, clock=clock) as registry:
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        instance = registry.instance("Diary", "a")
        await clock.advance(9)
        assert not instance.removable
        await advance_until(clock, lambda: instance.removable)
        await advance_until(clock, lambda: registry.counts.live + registry.counts.hibernating == 0)
        assert await registry.call(call_to(Diary, "a", Diary.write, "two")) == ["two"]
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["one", "two"]
        assert Diary.built == 2


@asynchronous
async def test_an_object_that_stored_nothing_leaves_no_file(tmp_path: Path) -> None:
    """An object that has stored nothing leaves no file when it hibernates or the registry
    closes."""
    clock = ManualClock()
    async with start_registry(tmp_path, Diary, clock=clock) as registry:
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == []
        client = join(registry, Diary, "a", Connection("c"))
        await client.next(Caption)
        instance = registry.instance("Diary", "a")
        await advance_until(clock, lambda: instance.hibernating)
        assert not instance.path.exists()
        assert await registry.call(call_to(Diary, "a", Diary.write, "one")) == ["one"]
        await advance_until(clock, lambda: instance.hibernating)
        assert instance.path.exists()
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["one"]
        await registry.call(call_to(Diary, "b", Diary.stored))
        other = registry.instance("Diary", "b").path
    assert instance.path.exists()
    assert not other.exists()


@asynchronous
async def test_an_event_during_the_release_reaches_the_same_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that arrives while an object is being released is handled, and the object stays in
    the registry."""
    clock = ManualClock()
    async with start_registry(tmp_path, Diary, clock=clock) as registry:
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        instance = registry.instance("Diary", "a")
        close = Storage.close
        late: list[Future[Any]] = []

        def close_during_an_event(storage: Storage) -> None:
            close(storage)
            if not late:
                future = asyncio.run_coroutine_threadsafe(
                    registry.call(call_to(Diary, "a", Diary.stored)), loop
                )
                late.append(future)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(Storage, "close", close_during_an_event)
        await clock.advance(11)
        await eventually(lambda: bool(late))
        assert await asyncio.wrap_future(late[0]) == ["one"]
        await clock.advance(0.5)
        assert registry.instance("Diary", "a") is instance


@asynchronous
async def test_an_idle_object_hibernates_with_open_connections(tmp_path: Path) -> None:
    """Hibernation releases the instance and the database, and keeps the connections and their
    state."""
    clock = ManualClock()
    async with start_registry(tmp_path, Diary, clock=clock) as registry:
        client = join(registry, Diary, "a", Connection("c", tags=("phone",)))
        await client.next(Caption)
        client.connection.state = {"user": "u"}
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        instance = registry.instance("Diary", "a")
        await clock.advance(9)
        assert not instance.hibernating
        await advance_until(clock, lambda: instance.hibernating)
        await clock.advance(60)
        assert registry.instance("Diary", "a") is instance
        assert client.closed is None
        assert registry.counts == RegistryCounts(live=0, hibernating=1, connections=1)
        assert await registry.call(call_to(Diary, "a", Diary.greet, "phone")) == [
            ("c", {"user": "u"})
        ]
        await client.until(lambda m: m == Caption(text="good morning"))
        assert Diary.built == 2


@asynchronous
async def test_an_object_with_running_work_does_not_hibernate(tmp_path: Path) -> None:
    """An object does not hibernate while a background task of the object is running."""
    clock = ManualClock()
    async with start_registry(tmp_path, Diary, clock=clock) as registry:
        await registry.call(call_to(Diary, "a", Diary.work, 60.0))
        instance = registry.instance("Diary", "a")
        await clock.advance(59)
        assert not instance.hibernating
        await advance_until(clock, lambda: instance.hibernating)
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["worked"]


@asynchronous
async def test_on_hibernate_may_write(tmp_path: Path) -> None:
    """The writes of `on_hibernate` are stored; if `on_hibernate` raises, the writes are rolled back
    and the object still hibernates."""

    class Tidy(Diary):
        def on_hibernate(self) -> None:
            self.write(f"good night {len(self.stored())}")
            if len(self.stored()) > 1:
                raise RuntimeError("cannot sleep")

    clock = ManualClock()
    async with start_registry(tmp_path, Tidy, clock=clock) as registry:
        await registry.call(call_to(Tidy, "a", Tidy.stored))
        for _ in range(2):
            built = Diary.built
            await advance_until(clock, lambda: registry.counts.live == 0)
            assert await registry.call(call_to(Tidy, "a", Tidy.stored)) == ["good night 0"]
            assert Diary.built > built


@asynchronous
async def test_a_client_that_leaves_before_it_is_admitted_never_joins(tmp_path: Path) -> None:
    """A connection that is closed before it is admitted does not keep the object in memory."""
    async with start_registry(tmp_path, Diary) as registry:
        client = join(registry, Diary, "a", Connection("c"))
        await client.leave()
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == []
        await eventually(lambda: registry.instance("Diary", "a").idle)


@asynchronous
async def test_a_reconnect_replaces_the_old_connection(tmp_path: Path) -> None:
    """When a client connects with the id of an open connection, the old connection is closed."""
    async with start_registry(tmp_path, Diary) as registry:
        old = join(registry, Diary, "a", Connection("same"))
        await old.next(Caption)
        new = join(registry, Diary, "a", Connection("same"))
        await new.next(Caption)
        assert (await old.wait_closed()).code == 1000
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["same left"]
        await old.leave()
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["same left"]
        assert new.closed is None


@asynchronous
async def test_a_destroyed_object_leaves_no_file_and_closes_its_connections(tmp_path: Path) -> None:
    """Destroying an object closes the object's connections and removes the file before the object's
    calls are sent; a later event creates an empty object."""
    async with start_registry(tmp_path, Diary) as registry:
        client = join(registry, Diary, "a", Connection("c"))
        await registry.call(call_to(Diary, "a", Diary.write, "secret"))
        await registry.call(call_to(Diary, "neighbour", Diary.stored))
        path = registry.instance("Diary", "a").path
        file_existed: list[bool] = []
        original = Diary.write

        def write(self: Diary, text: str) -> list[str]:
            file_existed.append(path.exists())
            return original(self, text)

        Diary.write = write  # type: ignore[method-assign]
        try:
            await registry.call(call_to(Diary, "a", Diary.destroy))
            assert (await client.wait_closed()).code == 4004
            await eventually(lambda: bool(file_existed))
        finally:
            Diary.write = original  # type: ignore[method-assign]
        assert file_existed == [False]
        assert not list(path.parent.glob(f"{path.name}*"))
        assert await registry.call(call_to(Diary, "neighbour", Diary.stored)) == ["it is gone"]
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == []


@asynchronous
async def test_an_event_behind_the_removal_fails_with_not_found(
    tmp_path: Path,
) -> None:
    """A call that was queued behind the removal of the called object raises `deleted`."""
    async with start_registry(tmp_path, Diary) as registry:
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        destroying = registry.instance("Diary", "a").call("destroy", ())
        late = registry.instance("Diary", "a").call("stored", ())
        await destroying
        with pytest.raises(NotFound) as caught:
            await late
        assert caught.value.code == ErrorCode.DELETED


@asynchronous
async def test_stopping_closes_every_connection_with_1012(tmp_path: Path) -> None:
    """Closing the registry closes every connection with code 1012, and later calls raise
    `stopping`."""
    async with start_registry(tmp_path, Diary) as registry:
        client = join(registry, Diary, "a", Connection("c"))
        await client.next(Caption)
        instance = registry.instance("Diary", "a")
        await registry.close()
        assert (await client.wait_closed()).code == CLOSE_RESTART
        with pytest.raises(PrepServerError) as caught:
            await registry.call(call_to(Diary, "a", Diary.stored))
        assert caught.value.code == ErrorCode.STOPPING
        with pytest.raises(PrepServerError) as caught:
            await instance.call("stored", ())
        assert caught.value.code == ErrorCode.STOPPING
        await client.leave()  # as the closed socket does; the object must not wake
        assert Diary.built == 1


@asynchronous
async def test_stopping_waits_for_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that is in progress when the registry is closed is completed."""
    async with start_registry(tmp_path, Diary) as registry:
        await registry.call(call_to(Diary, "a", Diary.stored))
        gate = CommitGate(monkeypatch, "a")
        call = asyncio.create_task(registry.call(call_to(Diary, "a", Diary.write, "last words")))
        await asyncio.to_thread(gate.reached.wait, 10)
        closing = asyncio.create_task(registry.close())
        await asyncio.sleep(0)
        gate.open()
        await closing
        assert await call == ["last words"]
    async with start_registry(tmp_path, Diary) as registry:
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["last words"]


@asynchronous
async def test_a_second_registry_in_the_directory_is_rejected(tmp_path: Path) -> None:
    """Starting a second registry in a data directory raises an error that names the process that
    owns the directory."""
    async with start_registry(tmp_path, Diary):
        with pytest.raises(Conflict, match=f"process {os.getpid()}") as caught:
            await Registry(tmp_path, (), ManualClock()).start()
        assert caught.value.code == ErrorCode.DATA_DIR_IN_USE


def test_a_killed_owner_releases_the_directory(tmp_path: Path) -> None:
    """The lock on a data directory is released even if the process that holds the lock is killed
    with SIGKILL."""
    hold = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from prepserver.clock import SystemClock\n"
        "from prepserver.objects.registry import Registry\n"
        "async def main():\n"
        "    await Registry(Path(sys.argv[1]), (), SystemClock()).start()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", hold, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9

    async def take() -> None:
        async with start_registry(tmp_path, Diary):
            pass

    asyncio.run(take())
