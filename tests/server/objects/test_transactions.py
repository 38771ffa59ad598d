"""A handler is one transaction, and nothing leaves before it is durable."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from prepserver.errors import BadRequest, PrepServerError, StorageError
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Caption, Failure
from tests.support.loop import asynchronous
from tests.support.objects import Gate, alive, call_to, join


class Ledger(DurableObject):
    """Adds up, and tells its room the sum."""

    migrations = ("CREATE TABLE entries (amount INTEGER NOT NULL);",)

    def add(self, *amounts: int) -> int:
        for amount in amounts:
            self.context.storage.sql("INSERT INTO entries VALUES (?)", amount)
        self.context.broadcast(Caption(text=str(self.total())))
        return self.total()

    def add_and_fail(self, amount: int, error: Exception) -> None:
        self.add(amount)
        self.context.tell(call_to(Ledger, "other", Ledger.add, amount))
        self.context.spawn(self._work, "work")
        self.context.set_alarm(self.context.clock.now() + 1)
        self.context.destroy()
        raise error

    def total(self) -> int:
        row = self.context.storage.row("SELECT coalesce(sum(amount), 0) FROM entries")
        assert row is not None
        return int(row[0])

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        self.context.send(connection, Caption(text="before"))
        self.add(int(message))

    async def _work(self) -> None:
        self.context.post("work was begun")

    def on_event(self, event: object) -> None:
        raise AssertionError("work of a handler that failed was begun")


@asynchronous
async def test_a_raise_undoes_every_write_of_the_handler(tmp_path: Path) -> None:
    """What a failed handler wrote is gone, and what was there before is not."""
    async with alive(tmp_path, Ledger) as registry:
        assert await registry.call(call_to(Ledger, "a", Ledger.add, 1, 2)) == 3
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Ledger, "a", Ledger.add_and_fail, 40, RuntimeError("oh")))
        assert await registry.call(call_to(Ledger, "a", Ledger.total)) == 3


@pytest.mark.parametrize("error", [RuntimeError("oh"), BadRequest("no")], ids=["bug", "refusal"])
@asynchronous
async def test_a_raise_discards_what_waited_to_leave(tmp_path: Path, error: Exception) -> None:
    """No send, tell, work, alarm or removal of a failed handler takes place."""
    async with alive(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Ledger, "a", Ledger.add_and_fail, 40, error))
        await registry.call(call_to(Ledger, "a", Ledger.add, 1))
        await client.until(lambda m: m == Caption(text="1"))
        assert await registry.call(call_to(Ledger, "other", Ledger.total)) == 0
        assert Caption(text="40") not in client.messages
        assert registry.alarms.pop_due_alarms(float("inf")) == []


@asynchronous
async def test_a_bug_is_told_as_a_typed_error_without_its_text(tmp_path: Path) -> None:
    """A stack trace or the text of an exception never reaches a caller."""
    async with alive(tmp_path, Ledger) as registry:
        with pytest.raises(PrepServerError) as caught:
            await registry.call(
                call_to(Ledger, "a", Ledger.add_and_fail, 1, RuntimeError("secret detail"))
            )
        assert caught.value.code == ErrorCode.INTERNAL
        assert caught.value.retryable
        assert "secret" not in caught.value.message


@asynchronous
async def test_effects_leave_only_when_the_commit_is_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk has not confirmed, the wire shows nothing; afterwards everything, in order."""
    async with alive(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        await registry.call(call_to(Ledger, "a", Ledger.total))
        gate = Gate(monkeypatch, "a")
        sending = asyncio.create_task(client.send("7"))
        await asyncio.to_thread(gate.reached.wait, 10)
        for _ in range(50):
            await asyncio.sleep(0)
        assert client.messages == []
        gate.open()
        await sending
        await client.until(lambda m: m == Caption(text="7"))
        assert client.messages == [Caption(text="before"), Caption(text="7")]


@asynchronous
async def test_a_slow_commit_of_one_object_does_not_hold_up_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop serves other objects while a disk takes its time."""
    async with alive(tmp_path, Ledger) as registry:
        gate = Gate(monkeypatch, "slow")
        slow = asyncio.create_task(registry.call(call_to(Ledger, "slow", Ledger.add, 1)))
        await asyncio.to_thread(gate.reached.wait, 10)
        assert (
            await asyncio.wait_for(registry.call(call_to(Ledger, "quick", Ledger.add, 2)), 5) == 2
        )
        assert not slow.done()
        gate.open()
        assert await slow == 1


@asynchronous
async def test_a_statement_that_the_database_refuses_leaves_nothing_open(tmp_path: Path) -> None:
    """A handler that breaks on bad SQL does not spoil the next one."""

    class Clumsy(Ledger):
        def stumble(self) -> None:
            self.add(1)
            self.context.storage.sql("INSERT INTO nowhere VALUES (1)")

    async with alive(tmp_path, Clumsy) as registry:
        with pytest.raises(PrepServerError, match="safe"):
            await registry.call(call_to(Clumsy, "a", Clumsy.stumble))
        assert await registry.call(call_to(Clumsy, "a", Clumsy.add, 2)) == 2


@asynchronous
async def test_what_was_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    """Whoever looks at the files as soon as the caller has its answer finds the write."""
    async with alive(tmp_path / "data", Ledger) as registry:
        await registry.call(call_to(Ledger, "a", Ledger.add, 5))
        path = registry.instance("Ledger", "a").path
        for file in path.parent.iterdir():
            shutil.copy(file, tmp_path)
        reader = sqlite3.connect(tmp_path / path.name)
        try:
            assert reader.execute("SELECT amount FROM entries").fetchall() == [(5,)]
        finally:
            reader.close()


@asynchronous
async def test_a_handler_that_only_reads_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and sending cost no commit."""
    async with alive(tmp_path, Ledger) as registry:
        await registry.call(call_to(Ledger, "a", Ledger.add, 1))
        gate = Gate(monkeypatch, "a")
        assert await registry.call(call_to(Ledger, "a", Ledger.total)) == 1
        assert not gate.reached.is_set()


@asynchronous
async def test_a_tell_arrives_when_its_handler_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object calls another only after its own transaction is on disk."""

    class Teller(Ledger):
        def pass_on(self, amount: int) -> None:
            self.add(amount)
            self.context.tell(call_to(Ledger, "b", Ledger.add, amount))

    async with alive(tmp_path, Ledger, Teller) as registry:
        gate = Gate(monkeypatch, "a")
        passing = asyncio.create_task(registry.call(call_to(Teller, "a", Teller.pass_on, 3)))
        await asyncio.to_thread(gate.reached.wait, 10)
        assert await registry.call(call_to(Ledger, "b", Ledger.total)) == 0
        gate.open()
        await passing
        heard: list[int] = []

        async def listen() -> None:
            while not heard:
                if await registry.call(call_to(Ledger, "b", Ledger.total)) == 3:
                    heard.append(3)

        await asyncio.wait_for(listen(), 10)


class Resuming(DurableObject):
    """Begins work when it starts; counts what its work has posted."""

    instances = 0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        Resuming.instances += 1
        self.number = Resuming.instances
        self.heard: list[object] = []

    def on_start(self) -> None:
        self.context.spawn(self._work, "work")

    async def _work(self) -> None:
        self.context.post(self.number)
        await asyncio.Event().wait()

    def on_event(self, event: object) -> None:
        self.heard.append(event)

    def what_was_heard(self) -> list[object]:
        return [self.number, *self.heard]

    def stumble(self) -> None:
        # The work posts once more before it is stopped: too late for this instance.
        self.context.post("stale")
        raise RuntimeError("oh")


@asynchronous
async def test_work_of_an_earlier_instance_is_not_heard_by_the_next(tmp_path: Path) -> None:
    """After a reset the object begins anew; what its former work posted is dropped."""
    Resuming.instances = 0
    async with alive(tmp_path, Resuming) as registry:
        await registry.call(call_to(Resuming, "a", Resuming.what_was_heard))
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Resuming, "a", Resuming.stumble))
        heard: list[object] = []

        async def listen() -> None:
            while len(heard) < 2:
                heard[:] = await registry.call(call_to(Resuming, "a", Resuming.what_was_heard))

        await asyncio.wait_for(listen(), 10)
        assert heard == [2, 2]


@asynchronous
async def test_events_that_wait_together_share_one_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a commit is under way others gather; one more commit makes all of them durable."""
    async with alive(tmp_path, Ledger) as registry:
        await registry.call(call_to(Ledger, "a", Ledger.total))
        gate = Gate(monkeypatch, "a")
        commits = 0
        commit = Storage.commit

        def counted(storage: Storage) -> None:
            nonlocal commits
            commits += 1
            commit(storage)

        monkeypatch.setattr(Storage, "commit", counted)
        instance = registry.instance("Ledger", "a")
        first = instance.call("add", (1,))
        await asyncio.to_thread(gate.reached.wait, 10)
        others = [instance.call("add", (10,)) for _ in range(5)]
        assert not first.done()
        gate.open()
        assert await asyncio.gather(first, *others) == [1, 11, 21, 31, 41, 51]
        assert commits == 2


@asynchronous
async def test_a_refused_handler_undoes_only_its_own_writes_among_those_that_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' writes become durable and their messages leave, in the order they came."""
    async with alive(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        await registry.call(call_to(Ledger, "a", Ledger.total))
        gate = Gate(monkeypatch, "a")
        instance = registry.instance("Ledger", "a")
        first = instance.call("add", (1,))
        await asyncio.to_thread(gate.reached.wait, 10)
        calls = [
            instance.call("add", (10,)),
            instance.call("add_and_fail", (100, BadRequest("no"))),
            instance.call("add", (1_000,)),
            instance.call("add_and_fail", (10_000, RuntimeError("a bug"))),
            instance.call("add", (100_000,)),
        ]
        gate.open()
        results = await asyncio.gather(first, *calls, return_exceptions=True)
        kinds = [r if isinstance(r, int) else type(r) for r in results]
        assert kinds == [1, 11, BadRequest, 1_011, PrepServerError, 101_011]
        await client.until(lambda m: m == Caption(text="101011"))
        shown = [m.text for m in client.messages if isinstance(m, Caption)]
        assert shown == ["1", "11", "1011", "101011"]
        assert await registry.call(call_to(Ledger, "a", Ledger.total)) == 101_011


@asynchronous
async def test_a_disk_that_refuses_takes_back_all_that_shared_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sender gets the typed error, the room hears of it, and nothing else leaves."""
    async with alive(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        await registry.call(call_to(Ledger, "a", Ledger.add, 1))
        gate = Gate(monkeypatch, "a")
        instance = registry.instance("Ledger", "a")
        first = instance.call("add", (1,))
        await asyncio.to_thread(gate.reached.wait, 10)
        with monkeypatch.context() as patch:
            commit = Storage.commit

            def refuse(storage: Storage) -> None:
                storage.rollback()
                raise StorageError("the disk is full")

            calls = [instance.call("add", (10,)), instance.deliver(client.connection, "100")]
            patch.setattr(Storage, "commit", refuse)
            gate.open()
            assert await first == 2
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(r) for r in results] == [StorageError, StorageError]
            patch.setattr(Storage, "commit", commit)
        await client.until(lambda m: isinstance(m, Failure) and m.code == ErrorCode.STORAGE)
        assert await registry.call(call_to(Ledger, "a", Ledger.total)) == 2
        shown = [m.text for m in client.messages if isinstance(m, Caption)]
        assert shown == ["1", "2"]


@asynchronous
async def test_what_sqlite_itself_rolled_back_is_not_taken_for_saved(tmp_path: Path) -> None:
    """A full disk undoes a whole transaction in the middle of a handler; a handler that takes no
    notice must not pass for one that was stored, nor those before it."""

    class Careless(Ledger):
        def spill(self) -> str:
            storage = self.context.storage
            storage.sql("INSERT INTO entries VALUES (1)")
            storage._connection.execute("ROLLBACK")  # as SQLite does when it cannot write
            try:
                storage.sql("INSERT INTO entries VALUES (2)")
            except StorageError:
                return "no harm done"
            return "written outside of any transaction"

    async with alive(tmp_path, Careless) as registry:
        await registry.call(call_to(Careless, "a", Careless.add, 5))
        instance = registry.instance("Careless", "a")
        held = instance.call("add", (1,))  # its commit is under way when the next two are put in
        before, spilled = instance.call("add", (10,)), instance.call("spill", ())
        results = await asyncio.gather(held, before, spilled, return_exceptions=True)
        assert [type(r) for r in results] == [int, StorageError, StorageError]
        assert await registry.call(call_to(Careless, "a", Careless.total)) == 6
