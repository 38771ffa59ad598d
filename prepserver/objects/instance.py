"""A live object: its instance, its database, its events, and the clients in its room."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import NotFound, PrepServerError
from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.connection import Connection
from prepserver.objects.mailbox import Mailbox
from prepserver.objects.object import Context, DurableObject, Factory
from prepserver.objects.storage import Storage, remove_files
from prepserver.objects.transaction import QueuedEvent, Transaction
from prepserver.storage.files import sync_folder
from prepserver.wire.codec import decode_message_id, encode
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import CLOSE_DELETED, Failure

__all__ = ["Instance", "Kind", "stopping"]

T = TypeVar("T")

ALARM_RETRIES = 6
ALARM_FIRST_RETRY = 2.0
"""Seconds; doubles with each retry."""

log = structlog.get_logger(__name__)


class Kind(Struct, frozen=True):
    """A class of objects: how to address it, build it, and lay out its database."""

    name: str
    factory: Factory
    migrations: tuple[str, ...]
    hears_close: bool = True
    """Whether `on_close` does something: if not, a client that leaves wakes nobody."""


class Runtime(Protocol):
    """What a cell needs of the registry."""

    @property
    def clock(self) -> Clock: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def vfs(self) -> str | None: ...
    @property
    def alarms(self) -> AlarmIndex: ...
    @property
    def closing(self) -> bool: ...
    def tell(
        self,
        kind: str,
        name: str,
        method: str,
        arguments: tuple[Any, ...],
        done: Callable[[], None],
    ) -> None: ...
    def detach(self, work: Coroutine[Any, Any, None]) -> None: ...
    def gone(self, cell: "Instance") -> None: ...


class Instance:
    """Everything an object does passes through here, one event after the other.

    The instance is built when an event needs it and thrown away when a handler fails in a way
    nobody foresaw, so that the next event starts from what is stored. Events that are waiting
    when their turn comes share one transaction, and so one wait for the disk.
    """

    __slots__ = (
        "_connections",
        "_context",
        "_destroyed",
        "_instance",
        "_mailbox",
        "_registry",
        "_storage",
        "_tasks",
        "kind",
        "last_event",
        "name",
        "path",
    )

    def __init__(self, kind: Kind, name: str, path: Path, registry: Runtime) -> None:
        self.kind = kind
        self.name = name
        self.path = path
        self._registry = registry
        self._mailbox = Mailbox(self)
        self._connections: dict[str, Connection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._storage: Storage | None = None
        self._context: Context | None = None
        self._instance: DurableObject | None = None
        self._destroyed = False
        self.last_event = registry.clock.monotonic()

    @property
    def busy(self) -> bool:
        """A handler runs or waits."""
        return self._mailbox.busy

    async def settled(self) -> None:
        """Return when no handler runs or waits."""
        await self._mailbox.drain()

    @property
    def idle(self) -> bool:
        """Nothing runs or waits here; clients may be connected."""
        return not (self.busy or self._tasks)

    @property
    def hibernating(self) -> bool:
        """No instance and no open database; the next event builds them again."""
        return self.idle and self._storage is None

    @property
    def released(self) -> bool:
        """Hibernating, with nobody connected: nothing is lost by forgetting the cell."""
        return self.hibernating and not self._connections

    # --- Events -------------------------------------------------------------------------------

    def call(self, method: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Run a method of the object as one transaction; the future has its result."""
        return self._enqueue(lambda instance: getattr(instance, method)(*arguments))

    def connect(self, connection: Connection) -> None:
        def handler(instance: DurableObject) -> None:
            if connection.closing is not None:
                return  # gone before its turn came
            replaced = self._connections.get(connection.id)
            self._connections[connection.id] = connection
            if replaced is not None:
                # A client that comes back before the old socket is known to be dead.
                replaced.close(1000, "replaced by a newer connection")
                instance.on_close(replaced)
            instance.on_connect(connection)

        def entered(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is None:
                return
            self._unregister(connection)
            if isinstance(error, NotFound):
                connection.close(CLOSE_DELETED, "deleted")
            else:
                connection.close(1011, "the room could not be opened: connect again")

        self._enqueue(handler, connection).add_done_callback(entered)

    def deliver(self, connection: Connection, message: str | bytes) -> asyncio.Future[Any]:
        return self._enqueue(lambda i: i.on_message(connection, message), connection, message)

    def disconnect(self, connection: Connection) -> None:
        """The client is gone, whether or not its `connect` has come to its turn."""
        connection.close(1000)
        if self._unregister(connection) and self.kind.hears_close:
            self._enqueue(lambda instance: instance.on_close(connection))

    def _unregister(self, connection: Connection) -> bool:
        known = self._connections.get(connection.id) is connection
        if known:
            del self._connections[connection.id]
        return known

    def _enqueue(
        self,
        handler: Callable[[DurableObject], Any],
        connection: Connection | None = None,
        message: str | bytes = b"",
    ) -> asyncio.Future[Any]:
        self.last_event = self._registry.clock.monotonic()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._mailbox.put(QueuedEvent(handler, result, connection, message))
        return result

    # --- Transactions: what the mailbox asks of its object --------------------------------------

    @property
    def awake(self) -> bool:
        return self._instance is not None and not self._destroyed

    async def wake(self) -> None:
        """Build the instance and run `on_start`. Raises PrepServerError."""
        if self._destroyed:
            raise NotFound("This room was deleted.", code=ErrorCode.DELETED)
        if self._registry.closing:
            raise stopping()
        try:
            self._storage = await self._in_thread(
                lambda: Storage(self.path, self.name, self.kind.migrations, vfs=self._registry.vfs)
            )
            self._context = Context(self.name, self._storage, self._registry.clock, self)
            instance = self.kind.factory(self._context)
            start = Transaction(instance, self._context)
            start.run(QueuedEvent(lambda started: started.on_start()))
            if error := start.handled[0].error:
                raise error
            await self.commit(start)
        except BaseException:
            await self.reset()
            raise
        self._instance = instance
        start.release(self)

    def begin(self) -> Transaction:
        assert self._instance is not None
        assert self._context is not None
        return Transaction(self._instance, self._context)

    async def commit(self, transaction: Transaction) -> None:
        """Make it durable. Raises PrepServerError, with nothing kept and the object reset."""
        storage = transaction.storage
        if not transaction.needs_disk:
            storage.rollback()
            return
        try:
            transaction.require_whole()
            if transaction.alarm_changed:
                await self._in_thread(lambda: self._commit_with_alarm(storage))
            else:
                await self._in_thread(storage.commit)
        except BaseException:
            storage.rollback()
            await self.reset()
            raise

    def _commit_with_alarm(self, storage: Storage) -> None:
        alarms, kind, alarm = self._registry.alarms, self.kind.name, storage.alarm()
        if alarm is not None:
            alarms.lower(kind, self.name, alarm.due)
        storage.commit()
        alarms.settle(kind, self.name, None if alarm is None else alarm.due)

    def told(self, event: QueuedEvent, error: PrepServerError) -> None:
        """An event failed: tell who asked."""
        connection, message = event.connection, event.message
        if connection is not None:
            id = decode_message_id(message) if isinstance(message, str) else ""
            connection.push(encode(Failure(**error.as_dict(), id=id)))
        if error.status >= 500:
            # The object was reset: everybody in the room is concerned.
            failure = encode(Failure(**error.as_dict()))
            for other in self._connections.values():
                if other is not connection:
                    other.push(failure)

    async def reset(self) -> None:
        """Forget everything that is not stored. Never raises."""
        for key in list(self._tasks):
            self.cancel(key)
        self._instance = self._context = None
        if self._storage is not None:
            storage, self._storage = self._storage, None
            try:
                await self._in_thread(storage.release)
            except Exception:
                log.exception("object.close_failed", kind=self.kind.name)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._registry.executor, work)

    # --- Alarm --------------------------------------------------------------------------------

    async def fire(self) -> None:
        """The index says that the alarm may be due: run it and, when it raises, arrange for the
        retry. Raises PrepServerError when not even that is possible."""
        try:
            await self._enqueue(self._fire)
        except PrepServerError as error:
            if error.code in (ErrorCode.DELETED, ErrorCode.STOPPING):
                raise
            log.warning("alarm.failed", kind=self.kind.name, code=error.code)
            await self._enqueue(self._retry_alarm)

    def _fire(self, instance: DurableObject) -> None:
        """Delete the alarm and run its handler, in one transaction: its effect happens once."""
        context = instance.context
        alarm = context.storage.alarm()
        if alarm is None or alarm.due > self._registry.clock.now():
            context.alarm_changed = True  # the index was early: bring it up to date
            return
        context.delete_alarm()
        instance.on_alarm(alarm.retry_count)

    def _retry_alarm(self, instance: DurableObject) -> None:
        context, now = instance.context, self._registry.clock.now()
        alarm = context.storage.alarm()
        if alarm is None or alarm.due > now:
            return  # set anew or deleted meanwhile: that counts
        if alarm.retry_count >= ALARM_RETRIES:
            log.error("alarm.abandoned", kind=self.kind.name, retries=alarm.retry_count)
            context.delete_alarm()
            return
        delay = ALARM_FIRST_RETRY * 2**alarm.retry_count
        context.storage.set_alarm(now + delay, alarm.retry_count + 1)
        context.alarm_changed = True

    # --- The object's host --------------------------------------------------------------------

    def post(self, event: object, sender: Context) -> None:
        def handler(instance: DurableObject) -> None:
            if instance.context is sender:
                instance.on_event(event)

        # Nobody waits for what comes of it, and it is the most frequent event of all.
        self.last_event = self._registry.clock.monotonic()
        self._mailbox.put(QueuedEvent(handler))

    def spawn(self, work: Coroutine[Any, Any, None], key: str) -> None:
        self.cancel(key)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task

        def finished(done: asyncio.Task[None]) -> None:
            if self._tasks.get(key) is done:
                del self._tasks[key]
            if not done.cancelled() and done.exception() is not None:
                log.error("object.work_failed", kind=self.kind.name, exc_info=done.exception())

        task.add_done_callback(finished)

    def cancel(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        self._registry.detach(work)

    def tell(
        self,
        kind: str,
        name: str,
        method: str,
        arguments: tuple[Any, ...],
        done: Callable[[], None],
    ) -> None:
        self._registry.tell(kind, name, method, arguments, done)

    def connected(self) -> Collection[Connection]:
        return self._connections.values()

    # --- The end ------------------------------------------------------------------------------

    def destroy(self, then: Callable[[], None]) -> None:
        self._destroyed = True
        for connection in self._connections.values():
            connection.close(CLOSE_DELETED, "deleted")
        self._connections.clear()
        self._mailbox.put(lambda: self._remove(then))

    async def _remove(self, then: Callable[[], None]) -> None:
        await self.reset()

        def unlink() -> None:
            self._registry.alarms.drop(self.kind.name, self.name)
            remove_files(self.path)
            if self.path.parent.is_dir():
                # Whoever is told that it is gone forgets it: it must not come back.
                sync_folder(self.path.parent)

        try:
            await self._in_thread(unlink)
        except Exception:
            # Still there: whoever wanted it gone is not told, and asks again.
            log.exception("object.not_removed", kind=self.kind.name)
            self._registry.gone(self)
        else:
            self._registry.gone(self)
            then()

    async def hibernate(self) -> None:
        """Release the instance and its database; connections stay. Nothing happens when an event
        came before it could be done."""
        if not self.awake or not self.idle:
            return
        with suppress(PrepServerError):
            await self._enqueue(lambda instance: instance.on_hibernate())
        if self.idle:
            self._mailbox.put(self.reset)
            await self._mailbox.drain()

    async def close(self) -> None:
        """Stop the work beside the object, let the handlers finish, and close the database."""
        for key in list(self._tasks):
            self.cancel(key)
        self._mailbox.put(self.reset)
        await self._mailbox.drain()


def stopping() -> PrepServerError:
    return PrepServerError(
        "The server is stopping; try again in a moment.", code=ErrorCode.STOPPING, retryable=True
    )
