"""Live object with its mailbox, its database, its alarm and the connections in its room."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from msgspec import Struct

from prepserver.errors import NotFound, PrepServerError
from prepserver.objects.connection import Connection
from prepserver.objects.mailbox import Mailbox
from prepserver.objects.object import Context, DurableObject, Factory, Runtime
from prepserver.objects.storage import Storage
from prepserver.objects.transaction import QueuedEvent, Transaction
from prepserver.storage.files import sync_folder
from prepserver.storage.sqlite import remove_database
from prepserver.wire.codec import decode_message_id, encode
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import CLOSE_DELETED, Failure

__all__ = ["Instance", "Kind", "server_stopping"]

T = TypeVar("T")

ALARM_RETRIES = 6
ALARM_FIRST_RETRY = 2.0
"""Seconds before the first retry of an alarm; the delay doubles with each further retry."""

log = structlog.get_logger(__name__)


class Kind(Struct, frozen=True):
    """Kind of objects: the name in addresses, the factory and the migrations of the databases."""

    name: str
    factory: Factory
    migrations: tuple[str, ...]
    handles_close: bool = True
    """False if `on_close` does nothing: disconnecting clients then need not wake the object."""


class Instance:
    """Single entry point to an object, which handles one event after another.

    The application's object is built when an event needs it. The object is discarded when a handler
    fails unexpectedly, so that the next event starts from the stored state. Events that are queued
    together share one transaction and thus one wait for the disk.
    """

    __slots__ = (
        "_connections",
        "_context",
        "_destroyed",
        "_mailbox",
        "_object",
        "_on_removed",
        "_runtime",
        "_storage",
        "kind",
        "last_event",
        "name",
        "path",
    )

    def __init__(
        self,
        kind: Kind,
        name: str,
        path: Path,
        runtime: Runtime,
        on_removed: Callable[["Instance"], None],
    ) -> None:
        """Create a hibernating instance.

        `on_removed` is called once `destroy` has removed the database or failed to remove it.
        """
        self.kind = kind
        self.name = name
        self.path = path
        self._runtime = runtime
        self._on_removed = on_removed
        self._mailbox = Mailbox(self)
        self._connections: dict[str, Connection] = {}
        self._storage: Storage | None = None
        self._context: Context | None = None
        self._object: DurableObject | None = None
        self._destroyed = False
        self.last_event = runtime.clock.monotonic()
        """Monotonic time in seconds of the latest event or, before any event, of the creation."""

    @property
    def connections(self) -> Collection[Connection]:
        """Connections in the room."""
        return self._connections.values()

    @property
    def busy(self) -> bool:
        """True while a handler or a step of the life cycle is running or queued."""
        return self._mailbox.busy

    @property
    def idle(self) -> bool:
        """True while no handler, step of the life cycle or background task is running or queued.

        Connections may be open.
        """
        return not (self.busy or (self._context is not None and self._context.has_tasks))

    @property
    def hibernating(self) -> bool:
        """True while the object is idle and its database is closed."""
        return self.idle and self._storage is None

    @property
    def removable(self) -> bool:
        """True while the object hibernates without connections: the instance may be dropped."""
        return self.hibernating and not self._connections

    async def wait_for_handlers(self) -> None:
        """Wait until no handler is running or queued."""
        await self._mailbox.drain()

    # --- Events -------------------------------------------------------------------------------

    def call(self, method: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Run a method of the object in a transaction. The returned future receives the result."""
        return self._enqueue(lambda target: getattr(target, method)(*arguments))

    def connect(self, connection: Connection) -> None:
        """Add a connection to the room and run `on_connect`. On failure, close the connection.

        A connection that has the same id and is already in the room is replaced and closed.
        """

        def handler(target: DurableObject) -> None:
            if connection.closing is not None:
                return  # the client left before this event was handled
            replaced = self._connections.get(connection.id)
            self._connections[connection.id] = connection
            if replaced is not None:
                # The client reconnected before the server noticed that the old socket was dead.
                replaced.close(1000, "replaced by a newer connection")
                target.on_close(replaced)
            target.on_connect(connection)

        def on_done(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is None:
                return
            self._unregister(connection)
            if isinstance(error, NotFound):
                connection.close(CLOSE_DELETED, "deleted")
            else:
                connection.close(1011, "the room could not be opened: connect again")

        self._enqueue(handler, connection).add_done_callback(on_done)

    def deliver(self, connection: Connection, message: str | bytes) -> asyncio.Future[Any]:
        """Run `on_message` in a transaction.

        The returned future is done once the effects are durable.
        """
        return self._enqueue(lambda o: o.on_message(connection, message), connection, message)

    def disconnect(self, connection: Connection) -> None:
        """Remove the connection of a client that has left, even if `connect` is still queued.

        If the connection was in the room and the kind handles closing, run `on_close`.
        """
        connection.close(1000)
        if self._unregister(connection) and self.kind.handles_close:
            self._enqueue(lambda target: target.on_close(connection))

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
        self.last_event = self._runtime.clock.monotonic()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._mailbox.enqueue(QueuedEvent(handler, result, connection, message))
        return result

    def _deliver_event(self, event: object, sender: Context) -> None:
        def handler(target: DurableObject) -> None:
            if target.context is sender:
                target.on_event(event)

        # Without a future: no caller waits, and this is the most frequent event.
        self.last_event = self._runtime.clock.monotonic()
        self._mailbox.enqueue(QueuedEvent(handler))

    # --- Transactions (MailboxOwner) ----------------------------------------------------------

    @property
    def awake(self) -> bool:
        return self._object is not None and not self._destroyed

    async def wake(self) -> None:
        """Open the database, build the object and run `on_start`.

        Raises PrepServerError if the object was deleted or cannot be started, or if the server is
        stopping.
        """
        if self._destroyed:
            raise NotFound("This room was deleted.", code=ErrorCode.DELETED)
        if self._runtime.closing:
            raise server_stopping()
        try:
            self._storage = await self._in_thread(
                lambda: Storage(self.path, self.name, self.kind.migrations, vfs=self._runtime.vfs)
            )
            self._context = Context(
                self.kind.name,
                self.name,
                self._storage,
                self._runtime,
                self._connections,
                self._deliver_event,
            )
            target = self.kind.factory(self._context)
            start = Transaction(target, self._context)
            start.run_handler(QueuedEvent(lambda started: started.on_start()))
            if error := start.handled[0].error:
                raise error
            await self.commit(start)
        except BaseException:
            await self.reset()
            raise
        self._object = target
        start.flush(self)

    def begin(self) -> Transaction:
        assert self._object is not None
        assert self._context is not None
        return Transaction(self._object, self._context)

    async def commit(self, transaction: Transaction) -> None:
        """Make a transaction durable.

        If the commit fails, roll back the transaction, reset the object and raise PrepServerError.
        """
        storage = transaction.storage
        if not transaction.needs_commit:
            storage.rollback()
            return
        try:
            transaction.require_intact()
            if transaction.alarm_changed:
                await self._in_thread(lambda: self._commit_with_alarm(storage))
            else:
                await self._in_thread(storage.commit)
        except BaseException:
            storage.rollback()
            await self.reset()
            raise

    def _commit_with_alarm(self, storage: Storage) -> None:
        index, kind, alarm = self._runtime.alarms, self.kind.name, storage.get_alarm()
        if alarm is not None:
            index.lower(kind, self.name, alarm.due)
        storage.commit()
        index.update(kind, self.name, None if alarm is None else alarm.due)

    def report_failure(self, event: QueuedEvent, error: PrepServerError) -> None:
        """Send an error to the connection that caused it.

        If the object was reset, send the error to all other connections in the room as well.
        """
        connection, message = event.connection, event.message
        if connection is not None:
            id = decode_message_id(message) if isinstance(message, str) else ""
            connection.push(encode(Failure(**error.as_dict(), id=id)))
        if error.status >= 500:
            # The object was reset, which concerns every client in the room.
            failure = encode(Failure(**error.as_dict()))
            for other in self._connections.values():
                if other is not connection:
                    other.push(failure)

    async def reset(self) -> None:
        """Discard the object and its background tasks, and close the database. Never raises."""
        if self._context is not None:
            self._context.cancel_tasks()
        self._object = self._context = None
        if self._storage is not None:
            storage, self._storage = self._storage, None
            try:
                await self._in_thread(storage.close)
            except Exception:
                log.exception("object.close_failed", kind=self.kind.name)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._runtime.executor, work)

    # --- Alarm --------------------------------------------------------------------------------

    async def fire_alarm(self) -> None:
        """Run the alarm's handler if the alarm is due.

        If the handler fails, schedule a retry or, after `ALARM_RETRIES` retries, delete the alarm.
        Raises PrepServerError if the object was deleted, if the server is stopping, or if the retry
        cannot be stored.
        """
        try:
            await self._enqueue(self._run_alarm)
        except PrepServerError as error:
            if error.code in (ErrorCode.DELETED, ErrorCode.STOPPING):
                raise
            log.warning("alarm.failed", kind=self.kind.name, code=error.code)
            await self._enqueue(self._retry_alarm)

    def _run_alarm(self, target: DurableObject) -> None:
        """Delete the alarm and run its handler in one transaction, if it is due.

        Otherwise correct the alarm's entry in the index.
        """
        context = target.context
        alarm = context.storage.get_alarm()
        if alarm is None or alarm.due > self._runtime.clock.now():
            context.alarm_changed = True  # the index entry was early: correct it
            return
        context.delete_alarm()
        target.on_alarm(alarm.retry_count)

    def _retry_alarm(self, target: DurableObject) -> None:
        context, now = target.context, self._runtime.clock.now()
        alarm = context.storage.get_alarm()
        if alarm is None or alarm.due > now:
            return  # it was replaced or deleted in the meantime
        if alarm.retry_count >= ALARM_RETRIES:
            log.error("alarm.abandoned", kind=self.kind.name, retries=alarm.retry_count)
            context.delete_alarm()
            return
        delay = ALARM_FIRST_RETRY * 2**alarm.retry_count
        context.storage.set_alarm(now + delay, alarm.retry_count + 1)
        context.alarm_changed = True

    # --- Shutdown -----------------------------------------------------------------------------

    def destroy(self, on_removed: Callable[[], None]) -> None:
        """Close all connections and remove the database.

        `on_removed` is called once the database is removed, and never if the removal fails.
        """
        self._destroyed = True
        for connection in self._connections.values():
            connection.close(CLOSE_DELETED, "deleted")
        self._connections.clear()
        self._mailbox.enqueue(lambda: self._remove(on_removed))

    async def _remove(self, on_removed: Callable[[], None]) -> None:
        await self.reset()

        def remove() -> None:
            self._runtime.alarms.remove(self.kind.name, self.name)
            remove_database(self.path)
            if self.path.parent.is_dir():
                # Durable before the owner drops its reference: the file must not reappear.
                sync_folder(self.path.parent)

        try:
            await self._in_thread(remove)
        except Exception:
            # The file still exists, so `on_removed` is not called, and the owner tries again.
            log.exception("object.not_removed", kind=self.kind.name)
            self._on_removed(self)
        else:
            self._on_removed(self)
            on_removed()

    async def hibernate(self) -> None:
        """Run `on_hibernate`, then release the object and its database. Connections stay open.

        If the object is not idle, or if an event arrives first, the object is not released.
        """
        if not self.awake or not self.idle:
            return
        with suppress(PrepServerError):
            await self._enqueue(lambda target: target.on_hibernate())
        if self.idle:
            self._mailbox.enqueue(self.reset)
            await self._mailbox.drain()

    async def close(self) -> None:
        """Cancel the background tasks, let the handlers finish, and close the database."""
        if self._context is not None:
            self._context.cancel_tasks()
        self._mailbox.enqueue(self.reset)
        await self._mailbox.drain()


def server_stopping() -> PrepServerError:
    """Return the error for requests that arrive while the server is stopping."""
    return PrepServerError(
        "The server is stopping. Try again in a moment.", code=ErrorCode.STOPPING, retryable=True
    )
