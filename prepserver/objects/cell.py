"""A live object: its instance, its database, its mailbox, and the clients in its room."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol

import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import PrepServerError
from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.connections import Connection
from prepserver.objects.mailbox import Mailbox
from prepserver.objects.object import Context, DurableObject, Factory
from prepserver.objects.storage import Storage
from prepserver.protocol import Failure, encode

__all__ = ["Cell", "Kind"]

CLOSE_DELETED = 4004
"""The room is gone for good."""

ALARM_RETRIES = 6
ALARM_FIRST_RETRY = 2.0
"""Seconds; doubles with each retry."""

log = structlog.get_logger(__name__)


class Kind(Struct, frozen=True):
    """A class of objects: how to address it, build it, and lay out its database."""

    name: str
    factory: Factory
    migrations: tuple[str, ...]


class Neighbourhood(Protocol):
    """What a cell needs of the registry."""

    @property
    def clock(self) -> Clock: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def alarms(self) -> AlarmIndex: ...
    def tell(self, kind: str, name: str, method: str, arguments: tuple[Any, ...]) -> None: ...
    def gone(self, cell: "Cell") -> None: ...


class Cell:
    """Everything an object does passes through here, one event after the other.

    The instance is built when an event needs it and thrown away when a handler fails in a way
    nobody foresaw, so that the next event starts from what is stored.
    """

    def __init__(self, kind: Kind, name: str, path: Path, registry: Neighbourhood) -> None:
        self.kind = kind
        self.name = name
        self.path = path
        self._registry = registry
        self._mailbox = Mailbox()
        self._connections: dict[str, Connection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._storage: Storage | None = None
        self._context: Context | None = None
        self._instance: DurableObject | None = None
        self._destroyed = False
        self.last_event = registry.clock.monotonic()

    @property
    def idle(self) -> bool:
        """Nothing runs, waits or listens here."""
        return not (self._mailbox.busy or self._tasks or self._connections)

    # --- Events -------------------------------------------------------------------------------

    def call(self, method: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Run a method of the object as one transaction; the future has its result."""
        return self._enqueue(lambda instance: getattr(instance, method)(*arguments))

    def connect(self, connection: Connection) -> None:
        def handler(instance: DurableObject) -> None:
            replaced = self._connections.get(connection.id)
            if replaced is not None:
                # A client that comes back before the old socket is known to be dead.
                replaced.close(1000, "replaced by a newer connection")
            self._connections[connection.id] = connection
            instance.on_connect(connection)

        def refused(future: asyncio.Future[Any]) -> None:
            if not future.cancelled() and future.exception() is not None:
                connection.close(1011, "the room could not be opened: connect again")

        self._enqueue(handler, connection).add_done_callback(refused)

    def deliver(self, connection: Connection, message: str | bytes) -> asyncio.Future[Any]:
        return self._enqueue(lambda i: i.on_message(connection, message), connection)

    def disconnect(self, connection: Connection) -> None:
        if self._connections.get(connection.id) is connection:
            del self._connections[connection.id]
        self._enqueue(lambda instance: instance.on_close(connection))

    def alarm(self) -> asyncio.Future[Any]:
        """The index says that the alarm may be due."""
        return self._enqueue(self._fire)

    def _enqueue(
        self, handler: Callable[[DurableObject], Any], connection: Connection | None = None
    ) -> asyncio.Future[Any]:
        self.last_event = self._registry.clock.monotonic()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                value = await self._transact(handler)
            except PrepServerError as error:
                if connection is not None:
                    connection.push(encode(Failure(**error.as_dict())).decode())
                if not result.cancelled():
                    result.set_exception(error)
            except BaseException as error:
                if not result.cancelled():
                    result.set_exception(error)
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
            else:
                if not result.cancelled():
                    result.set_result(value)
            if result.done() and not result.cancelled():
                # Whoever wants the outcome awaits it; nobody has to.
                result.exception()
            self.last_event = self._registry.clock.monotonic()

        self._mailbox.put(run)
        return result

    # --- One transaction ----------------------------------------------------------------------

    async def _transact(self, handler: Callable[[DurableObject], Any]) -> Any:
        try:
            instance, context = await self._activate()
            return await self._within_transaction(context, lambda: handler(instance))
        except PrepServerError as error:
            if error.status >= 500:
                await self._reset()
            raise
        except Exception as error:
            log.exception("object.handler_failed", kind=self.kind.name, object=self.path.stem[:12])
            await self._reset()
            raise PrepServerError(
                "The server could not do this; what was saved before is safe. Try again.",
                retryable=True,
            ) from error

    async def _within_transaction(self, context: Context, handler: Callable[[], Any]) -> Any:
        storage = context.storage
        storage.begin()
        try:
            value = handler()
            if context.alarm_changed:
                await self._in_thread(lambda: self._commit_with_alarm(storage))
            elif storage.wrote:
                await self._in_thread(storage.commit)
            else:
                storage.rollback()
        except BaseException:
            storage.rollback()
            context.discard()
            raise
        context.release()
        return value

    def _commit_with_alarm(self, storage: Storage) -> None:
        alarms, kind, alarm = self._registry.alarms, self.kind.name, storage.alarm()
        if alarm is not None:
            alarms.lower(kind, self.name, alarm.due)
        storage.commit()
        if alarm is not None:
            alarms.put(kind, self.name, alarm.due)
        else:
            alarms.drop(kind, self.name)

    async def _activate(self) -> tuple[DurableObject, Context]:
        if self._instance is not None and self._context is not None:
            return self._instance, self._context
        if self._destroyed:
            raise PrepServerError("This object was deleted.", code="deleted")
        storage = await self._in_thread(lambda: Storage(self.path, self.name, self.kind.migrations))
        context = Context(self.name, storage, self._registry.clock, self)
        instance = self.kind.factory(context)
        self._storage, self._context = storage, context
        await self._within_transaction(context, instance.on_start)
        self._instance = instance
        return instance, context

    async def _reset(self) -> None:
        """Forget everything that is not stored."""
        for key in list(self._tasks):
            self.cancel(key)
        self._instance = self._context = None
        if self._storage is not None:
            storage, self._storage = self._storage, None
            await self._in_thread(storage.close)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._registry.executor, work)

    # --- Alarm --------------------------------------------------------------------------------

    def _fire(self, instance: DurableObject) -> None:
        """Delete the alarm and run its handler, in one transaction: its effect happens once."""
        context = instance.context
        alarm = context.storage.alarm()
        if alarm is None or alarm.due > self._registry.clock.now():
            context.alarm_changed = True  # the index was early: bring it up to date
            return
        context.delete_alarm()
        try:
            instance.on_alarm(alarm.retry_count)
        except Exception:
            log.exception("alarm.failed", kind=self.kind.name, retry=alarm.retry_count)
            raise

    async def fire(self) -> None:
        """Fire and, when the handler raises, arrange for the retry."""
        try:
            await self.alarm()
        except PrepServerError:
            await self._enqueue(self._retry_alarm)

    def _retry_alarm(self, instance: DurableObject) -> None:
        context = instance.context
        alarm = context.storage.alarm()
        if alarm is None:
            return
        if alarm.retry_count >= ALARM_RETRIES:
            log.error("alarm.abandoned", kind=self.kind.name, retries=alarm.retry_count)
            context.delete_alarm()
            return
        delay = ALARM_FIRST_RETRY * 2**alarm.retry_count
        context.storage.set_alarm(self._registry.clock.now() + delay, alarm.retry_count + 1)
        context.alarm_changed = True

    # --- The object's host --------------------------------------------------------------------

    def post(self, event: object) -> None:
        self._enqueue(lambda instance: instance.on_event(event))

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

    def tell(self, kind: str, name: str, method: str, arguments: tuple[Any, ...]) -> None:
        self._registry.tell(kind, name, method, arguments)

    def connected(self) -> Iterable[Connection]:
        return self._connections.values()

    def destroy(self) -> None:
        self._destroyed = True
        for connection in list(self._connections.values()):
            connection.close(CLOSE_DELETED, "deleted")
        self._connections.clear()
        self._mailbox.put(self._remove)

    async def _remove(self) -> None:
        await self._reset()

        def unlink() -> None:
            self._registry.alarms.drop(self.kind.name, self.name)
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

        await self._in_thread(unlink)
        self._registry.gone(self)

    async def close(self) -> None:
        """Stop the work beside the object, let the handlers finish, and close the database."""
        for key in list(self._tasks):
            self.cancel(key)
        self._mailbox.put(self._reset)
        await self._mailbox.drain()
