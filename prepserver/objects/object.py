"""Interface for applications: the base class of objects, and an object's context.

Handlers are plain functions and cannot wait. A handler reads and writes the object's storage.
Messages, background tasks and calls to other objects take effect once the handler's transaction is
durable. Work that takes time runs in a background task (`spawn`), which reports back with an event
(`post`).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, ClassVar, Protocol

import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.connection import Close, Connection
from prepserver.objects.storage import Storage
from prepserver.objects.stubs import ObjectCall
from prepserver.wire.codec import encode
from prepserver.wire.protocol import ServerMessage

__all__ = ["Context", "DurableObject", "Factory", "Outcome", "Runtime"]

log = structlog.get_logger(__name__)


class Runtime(Protocol):
    """Services that the process provides to its objects. The registry implements them."""

    @property
    def clock(self) -> Clock: ...

    @property
    def executor(self) -> Executor:
        """Executor for work that blocks on the disk."""

    @property
    def vfs(self) -> str | None:
        """Name of the VFS that SQLite uses; None means the default."""

    @property
    def alarms(self) -> AlarmIndex: ...

    @property
    def closing(self) -> bool:
        """True once no new work is accepted."""

    def tell(self, call: ObjectCall[Any], on_done: Callable[[], None]) -> None:
        """Start a call. If the call succeeds, run `on_done` once the call's effects are durable."""

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` independently of any object. Errors are logged."""


class Outcome(Struct, frozen=True):
    """Effects of one handler, held back until the handler's transaction is durable."""

    effects: list[Callable[[], None]]
    tells: list[Callable[[], None]]
    destroying: bool
    alarm_changed: bool

    def send_tells(self) -> None:
        for send in self.tells:
            send()


class Context:
    """An object's access to its storage, its room, its alarm and the runtime.

    A context lives as long as the object is in memory, and owns the object's background tasks.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        storage: Storage,
        runtime: Runtime,
        connections: Mapping[str, Connection],
        deliver_event: Callable[[object, "Context"], None],
    ) -> None:
        """Connect an object to its storage, its room and the runtime. `connections` holds the
        current connections in the room, by id. `deliver_event` receives each event that this
        context posts, and puts the event into the object's mailbox."""
        self.kind = kind
        self.name = name
        self.storage = storage
        self.clock = runtime.clock
        self.alarm_changed = False
        self._runtime = runtime
        self._connections = connections
        self._deliver_event = deliver_event
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._effects: list[Callable[[], None]] = []
        self._tells: list[Callable[[], None]] = []
        self._destroying = False

    # --- Effects: take place once the handler's transaction is durable ------------------------

    def send(self, connection: Connection, message: ServerMessage) -> None:
        """Send a message to one connection."""
        encoded = encode(message)
        self._effects.append(lambda: connection.push(encoded))

    def broadcast(
        self, message: ServerMessage, *, exclude: Iterable[str] = (), tag: str | None = None
    ) -> None:
        """Send a message, encoded once, to every connection in the room.

        Connections whose ids are in `exclude` are left out. With `tag`, only connections with that
        tag receive the message. A client that connects later, even before the commit, does not
        receive the message: the client's snapshot already contains the change.
        """
        encoded = encode(message)
        present = self.connections(tag)
        if excluded := frozenset(exclude):
            present = [c for c in present if c.id not in excluded]

        def push() -> None:
            for connection in present:
                connection.push(encoded)

        self._effects.append(push)

    def close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection. Raises ValueError if the close code must not be sent."""
        ending = Close(code, reason)  # validates now, so that the handler fails, not the commit
        self._effects.append(lambda: connection.close(ending.code, ending.reason))

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], key: str) -> None:
        """Run `work` in a background task, which replaces any earlier task with the same key.

        The task is cancelled by `cancel(key)`, and when the object is reset or released.
        """
        self._effects.append(lambda: self._start_task(work(), key))

    def cancel(self, key: str) -> None:
        """Cancel the background task with this key, if one is running."""
        self._effects.append(lambda: self._cancel_task(key))

    def detach(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`, such as cleanup after a deletion, in a task that may outlive the instance."""
        self._effects.append(lambda: self._runtime.detach(work()))

    def tell(self, call: ObjectCall[Any], *, then: object = None) -> None:
        """Call another object's method without waiting for the result.

        `then` is posted to this object as an event once the call's effects are durable. The event
        does not arrive if the call fails, or if this object is reset or released first.
        """

        def on_done() -> None:
            if then is not None:
                self.post(then)

        self._tells.append(lambda: self._runtime.tell(call, on_done))

    def destroy(self) -> None:
        """Remove the object and its file once the handler's transaction is durable.

        Calls that the handler has made with `tell` are sent once the file is gone, so that an owner
        never drops its reference to an object that still exists after a crash.
        """
        self._destroying = True

    # --- Immediate ----------------------------------------------------------------------------

    def post(self, event: object) -> None:
        """Put an event from a background task into the object's own mailbox.

        The event is dropped if the object has been reset or released: the next instance restarts
        the work.
        """
        self._deliver_event(event, self)

    def connections(self, tag: str | None = None) -> list[Connection]:
        """Return the connections in the room or, if `tag` is given, those with that tag."""
        if tag is None:
            return list(self._connections.values())
        return [c for c in self._connections.values() if tag in c.tags]

    # --- Alarm --------------------------------------------------------------------------------

    def set_alarm(self, due: float) -> None:
        """Set or replace the alarm. `due` is in seconds since the Unix epoch."""
        self.storage.set_alarm(due)
        self.alarm_changed = True

    def get_alarm(self) -> float | None:
        """Return the alarm's due time in seconds since the Unix epoch; None if no alarm is set."""
        alarm = self.storage.get_alarm()
        return None if alarm is None else alarm.due

    def delete_alarm(self) -> None:
        self.storage.delete_alarm()
        self.alarm_changed = True

    # --- For the runtime ----------------------------------------------------------------------

    @property
    def has_tasks(self) -> bool:
        """True while background tasks are running."""
        return bool(self._tasks)

    def cancel_tasks(self) -> None:
        """Cancel all background tasks."""
        for key in list(self._tasks):
            self._cancel_task(key)

    def take_outcome(self) -> Outcome:
        """Return and clear the effects of the handler that has just ended."""
        outcome = Outcome(self._effects, self._tells, self._destroying, self.alarm_changed)
        self._effects, self._tells = [], []
        self._destroying = self.alarm_changed = False
        return outcome

    def _start_task(self, work: Coroutine[Any, Any, None], key: str) -> None:
        self._cancel_task(key)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task

        def on_done(done: asyncio.Task[None]) -> None:
            if self._tasks.get(key) is done:
                del self._tasks[key]
            if not done.cancelled() and done.exception() is not None:
                log.error("object.work_failed", kind=self.kind, exc_info=done.exception())

        task.add_done_callback(on_done)

    def _cancel_task(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()


class DurableObject:
    """Base class of all objects. The writes of a hook that raises an exception are rolled back."""

    migrations: ClassVar[tuple[str, ...]] = ()
    """SQL scripts. The script at index n upgrades schema version n to n + 1.

    Released scripts are never changed.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    def on_start(self) -> None:
        """Prepare the object. Called before the object handles any other event."""

    def on_connect(self, connection: Connection) -> None: ...

    def on_message(self, connection: Connection, message: str | bytes) -> None: ...

    def on_close(self, connection: Connection) -> None: ...

    def on_event(self, event: Any) -> None:
        """Handle an event that a background task has posted."""

    def on_alarm(self, retry_count: int) -> None: ...

    def on_hibernate(self) -> None:
        """Prepare for hibernation by saving state in the database or in `Connection.state`.

        The object and its database are released next; connections stay open.
        """


Factory = Callable[[Context], DurableObject]
