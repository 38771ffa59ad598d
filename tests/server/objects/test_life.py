"""How an object comes to life, is released, comes back, and goes for good."""

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
from tests.support.objects import Gate, alive, call_to, eventually, in_time, join


class Diary(DurableObject):
    """Writes down what happens to it, in memory and in its database."""

    migrations = ("CREATE TABLE lines (text TEXT NOT NULL);",)
    born = 0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        Diary.born += 1
        self.memory: list[str] = []

    def write(self, text: str) -> list[str]:
        self.memory.append(text)
        self.context.storage.sql("INSERT INTO lines VALUES (?)", text)
        return self.memory

    def stored(self) -> list[str]:
        return [row[0] for row in self.context.storage.sql("SELECT text FROM lines ORDER BY rowid")]

    def burn(self) -> None:
        self.context.tell(call_to(Diary, "neighbour", Diary.write, "it is gone"))
        self.context.destroy()

    def greet(self, tag: str) -> list[tuple[str, Any]]:
        self.context.broadcast(Caption(text="good morning"), tag=tag)
        return [(each.id, each.state) for each in self.context.connections(tag)]

    def work(self, seconds: float) -> None:
        async def worked() -> None:
            await self.context.clock.sleep(seconds)
            self.context.post("worked")

        self.context.spawn(worked, "work")

    def on_event(self, event: object) -> None:
        self.write(str(event))

    def on_connect(self, connection: Connection) -> None:
        self.context.send(connection, Caption(text="welcome"))

    def on_close(self, connection: Connection) -> None:
        self.write(f"{connection.id} left")


@pytest.fixture(autouse=True)
def _nobody_born() -> None:
    Diary.born = 0


@asynchronous
async def test_handlers_run_one_after_the_other_in_the_order_of_arrival(tmp_path: Path) -> None:
    """A hundred calls at once are as a hundred calls in a row."""
    async with alive(tmp_path, Diary) as registry:
        calls = [registry.call(call_to(Diary, "a", Diary.write, str(n))) for n in range(100)]
        await asyncio.gather(*calls)
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == [
            str(n) for n in range(100)
        ]


@asynchronous
async def test_racing_activations_make_one_instance(tmp_path: Path) -> None:
    """Two hundred events that find the object asleep wake it once."""
    async with alive(tmp_path, Diary) as registry:
        await asyncio.gather(
            *(registry.call(call_to(Diary, "a", Diary.stored)) for _ in range(200))
        )
        assert Diary.born == 1


@asynchronous
async def test_names_are_never_paths(tmp_path: Path) -> None:
    """A name full of slashes and dots stays inside the data directory, and names do not collide."""
    async with alive(tmp_path / "data", Diary) as registry:
        for name in ("../../escape", "/etc/passwd", "a/b", "a b", "ü", ""):
            await registry.call(call_to(Diary, name, Diary.write, name))
        for name in ("../../escape", "/etc/passwd", "a/b", "a b", "ü", ""):
            assert await registry.call(call_to(Diary, name, Diary.stored)) == [name]
    assert _names(tmp_path) == ["data"]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@asynchronous
async def test_nothing_is_served_before_on_start_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events wait for the first transaction to be durable."""

    class Starting(Diary):
        def on_start(self) -> None:
            self.write("started")

    async with alive(tmp_path, Starting) as registry:
        gate = Gate(monkeypatch, "a")
        call = asyncio.create_task(registry.call(call_to(Starting, "a", Starting.write, "called")))
        await asyncio.to_thread(gate.reached.wait, 10)
        assert not call.done()
        gate.open()
        assert await call == ["started", "called"]


@pytest.mark.parametrize("kind_of_error", [RuntimeError, Conflict])
@asynchronous
async def test_a_failed_start_is_tried_again_by_the_next_event(
    tmp_path: Path, kind_of_error: type[Exception]
) -> None:
    """A start that raises leaves no half-made instance and no open database behind."""
    fails = [True]

    class Stubborn(Diary):
        def on_start(self) -> None:
            self.write("started")
            if fails.pop() if fails else False:
                raise kind_of_error("not yet")

    async with alive(tmp_path, Stubborn) as registry:
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Stubborn, "a", Stubborn.stored))
        instance = registry.instance("Stubborn", "a")
        await eventually(lambda: instance.removable)
        assert await registry.call(call_to(Stubborn, "a", Stubborn.stored)) == ["started"]


@asynchronous
async def test_an_idle_object_is_released_and_comes_back(tmp_path: Path) -> None:
    """After ten seconds of nothing the instance is gone; the next event finds what was stored."""
    clock = ManualClock()
    async with alive(tmp_path, Diary, clock=clock) as registry:
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        instance = registry.instance("Diary", "a")
        await clock.advance(9)
        assert not instance.removable
        await in_time(clock, lambda: instance.removable)
        await in_time(clock, lambda: registry.counts.live + registry.counts.hibernating == 0)
        assert await registry.call(call_to(Diary, "a", Diary.write, "two")) == ["two"]
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["one", "two"]
        assert Diary.born == 2


@asynchronous
async def test_an_object_that_stored_nothing_leaves_no_file(tmp_path: Path) -> None:
    """Whoever names one that never was, or is gone, does not fill the disk; what is stored in it
    later stays."""
    clock = ManualClock()
    async with alive(tmp_path, Diary, clock=clock) as registry:
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == []
        client = join(registry, Diary, "a", Connection("c"))
        await client.next(Caption)
        instance = registry.instance("Diary", "a")
        await in_time(clock, lambda: instance.hibernating)
        assert not instance.path.exists()
        assert await registry.call(call_to(Diary, "a", Diary.write, "one")) == ["one"]
        await in_time(clock, lambda: instance.hibernating)
        assert instance.path.exists()
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["one"]
        await registry.call(call_to(Diary, "b", Diary.stored))
        other = registry.instance("Diary", "b").path
    assert instance.path.exists()
    assert not other.exists()


@asynchronous
async def test_an_event_during_the_release_finds_the_one_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that is being released when an event comes is not forgotten while it is alive."""
    clock = ManualClock()
    async with alive(tmp_path, Diary, clock=clock) as registry:
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        instance = registry.instance("Diary", "a")
        close = Storage.close
        late: list[Future[Any]] = []

        def close_as_an_event_comes(storage: Storage) -> None:
            close(storage)
            if not late:
                future = asyncio.run_coroutine_threadsafe(
                    registry.call(call_to(Diary, "a", Diary.stored)), loop
                )
                late.append(future)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(Storage, "close", close_as_an_event_comes)
        await clock.advance(11)
        await eventually(lambda: bool(late))
        assert await asyncio.wrap_future(late[0]) == ["one"]
        await clock.advance(0.5)
        assert registry.instance("Diary", "a") is instance


@asynchronous
async def test_an_idle_object_hibernates_under_its_open_sockets(tmp_path: Path) -> None:
    """Instance and database go, clients and what is attached to them stay, and the next event
    finds the room as it was."""
    clock = ManualClock()
    async with alive(tmp_path, Diary, clock=clock) as registry:
        client = join(registry, Diary, "a", Connection("c", tags=("phone",)))
        await client.next(Caption)
        client.connection.state = {"user": "u"}
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        instance = registry.instance("Diary", "a")
        await clock.advance(9)
        assert not instance.hibernating
        await in_time(clock, lambda: instance.hibernating)
        await clock.advance(60)
        assert registry.instance("Diary", "a") is instance
        assert client.closed is None
        assert registry.counts == RegistryCounts(live=0, hibernating=1, connections=1)
        assert await registry.call(call_to(Diary, "a", Diary.greet, "phone")) == [
            ("c", {"user": "u"})
        ]
        await client.until(lambda m: m == Caption(text="good morning"))
        assert Diary.born == 2


@asynchronous
async def test_an_object_at_work_does_not_hibernate(tmp_path: Path) -> None:
    """Work beside the object keeps its instance, however long it takes."""
    clock = ManualClock()
    async with alive(tmp_path, Diary, clock=clock) as registry:
        await registry.call(call_to(Diary, "a", Diary.work, 60.0))
        instance = registry.instance("Diary", "a")
        await clock.advance(59)
        assert not instance.hibernating
        await in_time(clock, lambda: instance.hibernating)
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["worked"]


@asynchronous
async def test_an_object_may_store_what_must_last_before_it_hibernates(tmp_path: Path) -> None:
    """`on_hibernate` is a handler like any other; one that fails does not keep the object."""

    class Tidy(Diary):
        def on_hibernate(self) -> None:
            self.write(f"good night {len(self.stored())}")
            if len(self.stored()) > 1:
                raise RuntimeError("cannot sleep")

    clock = ManualClock()
    async with alive(tmp_path, Tidy, clock=clock) as registry:
        await registry.call(call_to(Tidy, "a", Tidy.stored))
        for _ in range(2):
            born = Diary.born
            await in_time(clock, lambda: registry.counts.live == 0)
            assert await registry.call(call_to(Tidy, "a", Tidy.stored)) == ["good night 0"]
            assert Diary.born > born


@asynchronous
async def test_a_client_that_is_gone_before_its_turn_is_never_in_the_room(tmp_path: Path) -> None:
    """A socket that opens and closes at once leaves nothing that keeps the object alive."""
    async with alive(tmp_path, Diary) as registry:
        client = join(registry, Diary, "a", Connection("c"))
        await client.leave()
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == []
        await eventually(lambda: registry.instance("Diary", "a").idle)


@asynchronous
async def test_a_client_that_returns_replaces_its_old_connection(tmp_path: Path) -> None:
    """The same connection id twice is one client: the old socket is ended, the new one served."""
    async with alive(tmp_path, Diary) as registry:
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
async def test_a_destroyed_object_leaves_nothing_and_ends_its_clients(tmp_path: Path) -> None:
    """Its file is gone before others hear of it; later events begin a new, empty object."""
    async with alive(tmp_path, Diary) as registry:
        client = join(registry, Diary, "a", Connection("c"))
        await registry.call(call_to(Diary, "a", Diary.write, "secret"))
        await registry.call(call_to(Diary, "neighbour", Diary.stored))
        path = registry.instance("Diary", "a").path
        still_there: list[bool] = []
        original = Diary.write

        def write(self: Diary, text: str) -> list[str]:
            still_there.append(path.exists())
            return original(self, text)

        Diary.write = write  # type: ignore[method-assign]
        try:
            await registry.call(call_to(Diary, "a", Diary.burn))
            assert (await client.wait_closed()).code == 4004
            await eventually(lambda: bool(still_there))
        finally:
            Diary.write = original  # type: ignore[method-assign]
        assert still_there == [False]
        assert not list(path.parent.glob(f"{path.name}*"))
        assert await registry.call(call_to(Diary, "neighbour", Diary.stored)) == ["it is gone"]
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == []


@asynchronous
async def test_an_event_that_comes_too_late_is_told_that_the_object_is_gone(
    tmp_path: Path,
) -> None:
    """What was queued behind the removal is refused as not found, not served from a dead file."""
    async with alive(tmp_path, Diary) as registry:
        await registry.call(call_to(Diary, "a", Diary.write, "one"))
        burning = registry.instance("Diary", "a").call("burn", ())
        late = registry.instance("Diary", "a").call("stored", ())
        await burning
        with pytest.raises(NotFound) as caught:
            await late
        assert caught.value.code == ErrorCode.DELETED


@asynchronous
async def test_stopping_ends_every_client_so_that_it_comes_back(tmp_path: Path) -> None:
    """Close code 1012 tells clients to reconnect, and later events are refused."""
    async with alive(tmp_path, Diary) as registry:
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
        await client.leave()  # as the socket does after its end: no object is woken
        assert Diary.born == 1


@asynchronous
async def test_stopping_lets_what_was_begun_become_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler whose commit is under way when the server stops is not lost."""
    async with alive(tmp_path, Diary) as registry:
        await registry.call(call_to(Diary, "a", Diary.stored))
        gate = Gate(monkeypatch, "a")
        call = asyncio.create_task(registry.call(call_to(Diary, "a", Diary.write, "last words")))
        await asyncio.to_thread(gate.reached.wait, 10)
        closing = asyncio.create_task(registry.close())
        await asyncio.sleep(0)
        gate.open()
        await closing
        assert await call == ["last words"]
    async with alive(tmp_path, Diary) as registry:
        assert await registry.call(call_to(Diary, "a", Diary.stored)) == ["last words"]


@asynchronous
async def test_a_second_registry_in_the_directory_is_refused(tmp_path: Path) -> None:
    """One data directory has one owner, who is named to whoever comes second."""
    async with alive(tmp_path, Diary):
        with pytest.raises(Conflict, match=f"process {os.getpid()}") as caught:
            await Registry(tmp_path, (), ManualClock()).start()
        assert caught.value.code == ErrorCode.DATA_DIR_IN_USE


def test_a_killed_owner_leaves_the_directory_free(tmp_path: Path) -> None:
    """The lock ends with its process, however that ends."""
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
        async with alive(tmp_path, Diary):
            pass

    asyncio.run(take())
