"""Transactions of handlers, and the output gate: nothing leaves an object before its writes are
durable."""

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
from tests.support.objects import CommitGate, call_to, join, start_registry


class Ledger(DurableObject):
    """Object that adds up amounts and broadcasts the sum."""

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
        self.context.post("work was started")

    def on_event(self, event: object) -> None:
        raise AssertionError("work of a failed handler was started")


@asynchronous
async def test_a_failed_handler_is_rolled_back(tmp_path: Path) -> None:
    """The writes of a handler that raises are rolled back, and the writes of earlier handlers
    stay."""
    async with start_registry(tmp_path, Ledger) as registry:
        assert await registry.call(call_to(Ledger, "a", Ledger.add, 1, 2)) == 3
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Ledger, "a", Ledger.add_and_fail, 40, RuntimeError("oh")))
        assert await registry.call(call_to(Ledger, "a", Ledger.total)) == 3


@pytest.mark.parametrize("error", [RuntimeError("oh"), BadRequest("no")], ids=["bug", "refusal"])
@asynchronous
async def test_a_failed_handler_has_no_effects(tmp_path: Path, error: Exception) -> None:
    """Messages, calls, background tasks, alarms and removals of a failed handler are discarded."""
    async with start_registry(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Ledger, "a", Ledger.add_and_fail, 40, error))
        await registry.call(call_to(Ledger, "a", Ledger.add, 1))
        await client.until(lambda m: m == Caption(text="1"))
        assert await registry.call(call_to(Ledger, "other", Ledger.total)) == 0
        assert Caption(text="40") not in client.messages
        assert registry.alarms.pop_due_alarms(float("inf")) == []


@asynchronous
async def test_an_unexpected_error_is_reported_without_its_text(tmp_path: Path) -> None:
    """When a handler raises an unexpected exception, the caller receives a typed error without the
    exception's text."""
    async with start_registry(tmp_path, Ledger) as registry:
        with pytest.raises(PrepServerError) as caught:
            await registry.call(
                call_to(Ledger, "a", Ledger.add_and_fail, 1, RuntimeError("secret detail"))
            )
        assert caught.value.code == ErrorCode.INTERNAL
        assert caught.value.retryable
        assert "secret" not in caught.value.message


@asynchronous
async def test_effects_leave_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages of a handler are sent in order, and only once the commit is durable."""
    async with start_registry(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        await registry.call(call_to(Ledger, "a", Ledger.total))
        gate = CommitGate(monkeypatch, "a")
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
    """While one object is waiting for the disk, the event loop serves other objects."""
    async with start_registry(tmp_path, Ledger) as registry:
        gate = CommitGate(monkeypatch, "slow")
        slow = asyncio.create_task(registry.call(call_to(Ledger, "slow", Ledger.add, 1)))
        await asyncio.to_thread(gate.reached.wait, 10)
        assert (
            await asyncio.wait_for(registry.call(call_to(Ledger, "quick", Ledger.add, 2)), 5) == 2
        )
        assert not slow.done()
        gate.open()
        assert await slow == 1


@asynchronous
async def test_an_invalid_statement_leaves_no_open_transaction(tmp_path: Path) -> None:
    """A handler that fails on invalid SQL does not affect the next handler."""

    class Clumsy(Ledger):
        def fail_on_sql(self) -> None:
            self.add(1)
            self.context.storage.sql("INSERT INTO nowhere VALUES (1)")

    async with start_registry(tmp_path, Clumsy) as registry:
        with pytest.raises(PrepServerError, match="safe"):
            await registry.call(call_to(Clumsy, "a", Clumsy.fail_on_sql))
        assert await registry.call(call_to(Clumsy, "a", Clumsy.add, 2)) == 2


@asynchronous
async def test_an_acknowledged_write_is_in_the_file(tmp_path: Path) -> None:
    """A copy of the database files made right after a reply contains the acknowledged write."""
    async with start_registry(tmp_path / "data", Ledger) as registry:
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
async def test_a_handler_that_only_reads_needs_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that only reads returns without a commit."""
    async with start_registry(tmp_path, Ledger) as registry:
        await registry.call(call_to(Ledger, "a", Ledger.add, 1))
        gate = CommitGate(monkeypatch, "a")
        assert await registry.call(call_to(Ledger, "a", Ledger.total)) == 1
        assert not gate.reached.is_set()


@asynchronous
async def test_a_tell_is_sent_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call to another object is sent only after the caller's transaction is durable."""

    class Teller(Ledger):
        def add_and_tell(self, amount: int) -> None:
            self.add(amount)
            self.context.tell(call_to(Ledger, "b", Ledger.add, amount))

    async with start_registry(tmp_path, Ledger, Teller) as registry:
        gate = CommitGate(monkeypatch, "a")
        passing = asyncio.create_task(registry.call(call_to(Teller, "a", Teller.add_and_tell, 3)))
        await asyncio.to_thread(gate.reached.wait, 10)
        assert await registry.call(call_to(Ledger, "b", Ledger.total)) == 0
        gate.open()
        await passing
        received: list[int] = []

        async def poll() -> None:
            while not received:
                if await registry.call(call_to(Ledger, "b", Ledger.total)) == 3:
                    received.append(3)

        await asyncio.wait_for(poll(), 10)


class Resuming(DurableObject):
    """Object that spawns a background task when it starts and records the events that the task
    posts."""

    instances = 0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        Resuming.instances += 1
        self.number = Resuming.instances
        self.received: list[object] = []

    def on_start(self) -> None:
        self.context.spawn(self._work, "work")

    async def _work(self) -> None:
        self.context.post(self.number)
        await asyncio.Event().wait()

    def on_event(self, event: object) -> None:
        self.received.append(event)

    def received_events(self) -> list[object]:
        return [self.number, *self.received]

    def post_and_fail(self) -> None:
        # Posted by work of this instance, which the reset discards.
        self.context.post("stale")
        raise RuntimeError("oh")


@asynchronous
async def test_events_from_an_earlier_instance_are_dropped(tmp_path: Path) -> None:
    """After a failed handler, the object restarts, and events that the earlier instance posted are
    dropped."""
    Resuming.instances = 0
    async with start_registry(tmp_path, Resuming) as registry:
        await registry.call(call_to(Resuming, "a", Resuming.received_events))
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Resuming, "a", Resuming.post_and_fail))
        received: list[object] = []

        async def poll() -> None:
            while len(received) < 2:
                received[:] = await registry.call(call_to(Resuming, "a", Resuming.received_events))

        await asyncio.wait_for(poll(), 10)
        assert received == [2, 2]


@asynchronous
async def test_waiting_events_share_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that arrive during a commit are committed together."""
    async with start_registry(tmp_path, Ledger) as registry:
        await registry.call(call_to(Ledger, "a", Ledger.total))
        gate = CommitGate(monkeypatch, "a")
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
async def test_a_failed_handler_in_a_shared_transaction_is_rolled_back_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If some handlers in a shared transaction fail, only the writes and messages of those handlers
    are discarded."""
    async with start_registry(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        await registry.call(call_to(Ledger, "a", Ledger.total))
        gate = CommitGate(monkeypatch, "a")
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
async def test_a_failed_commit_fails_every_handler_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a commit fails, the room and the caller of every handler in the transaction receive
    `storage`, and nothing else is sent."""
    async with start_registry(tmp_path, Ledger) as registry:
        client = join(registry, Ledger, "a", Connection("c"))
        await registry.call(call_to(Ledger, "a", Ledger.add, 1))
        gate = CommitGate(monkeypatch, "a")
        instance = registry.instance("Ledger", "a")
        first = instance.call("add", (1,))
        await asyncio.to_thread(gate.reached.wait, 10)
        with monkeypatch.context() as patch:
            commit = Storage.commit

            def fail(storage: Storage) -> None:
                storage.rollback()
                raise StorageError("the disk is full")

            calls = [instance.call("add", (10,)), instance.deliver(client.connection, "100")]
            patch.setattr(Storage, "commit", fail)
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
async def test_a_rollback_by_sqlite_is_not_reported_as_success(tmp_path: Path) -> None:
    """If SQLite rolls back a transaction, as on a full disk, every handler in the transaction
    fails, even one that ignores the error."""

    class Careless(Ledger):
        def ignore_rollback(self) -> str:
            storage = self.context.storage
            storage.sql("INSERT INTO entries VALUES (1)")
            storage._connection.execute("ROLLBACK")  # as SQLite does when it cannot write
            try:
                storage.sql("INSERT INTO entries VALUES (2)")
            except StorageError:
                return "ignored"
            return "written outside of any transaction"

    async with start_registry(tmp_path, Careless) as registry:
        await registry.call(call_to(Careless, "a", Careless.add, 5))
        instance = registry.instance("Careless", "a")
        held = instance.call("add", (1,))  # its commit is in progress when the next two are queued
        before, ignored = instance.call("add", (10,)), instance.call("ignore_rollback", ())
        results = await asyncio.gather(held, before, ignored, return_exceptions=True)
        assert [type(r) for r in results] == [int, StorageError, StorageError]
        assert await registry.call(call_to(Careless, "a", Careless.total)) == 6
