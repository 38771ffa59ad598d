"""What an application writes: a subclass of DurableObject, and the context it works through.

Handlers are plain functions, so that nothing can wait inside one: a handler reads and writes its
storage, and what it sends, spawns or tells leaves after its transaction is durable. Work that
takes time runs beside the object (`spawn`) and comes back as an event (`post`).
"""

from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from prepserver.clock import Clock
from prepserver.objects.connection import Close, Connection
from prepserver.objects.storage import Storage
from prepserver.wire.codec import encode
from prepserver.wire.protocol import ServerMessage

__all__ = ["Context", "DurableObject", "Factory", "Outcome"]


class Host(Protocol):
    """The live cell an object runs in: what a context asks of the runtime."""

    def post(self, event: object, sender: "Context") -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None], key: str) -> None: ...
    def cancel(self, key: str) -> None: ...
    def detach(self, work: Coroutine[Any, Any, None]) -> None: ...
    def tell(
        self,
        kind: str,
        name: str,
        method: str,
        arguments: tuple[Any, ...],
        done: Callable[[], None],
    ) -> None: ...
    def destroy(self, then: Callable[[], None]) -> None: ...
    def connected(self) -> Collection[Connection]: ...


class Outcome(Struct, frozen=True):
    """What one handler lets out when its transaction is durable."""

    effects: list[Callable[[], None]]
    tells: list[Callable[[], None]]
    destroying: bool
    alarm_changed: bool

    def tell(self) -> None:
        for one in self.tells:
            one()


class Context:
    """One object's view of the runtime. Effects wait for the handler's transaction."""

    def __init__(self, name: str, storage: Storage, clock: Clock, host: Host) -> None:
        self.name = name
        self.storage = storage
        self.clock = clock
        self._host = host
        self._effects: list[Callable[[], None]] = []
        self._tells: list[Callable[[], None]] = []
        self._destroying = False
        self.alarm_changed = False

    # --- Effects ------------------------------------------------------------------------------

    def send(self, connection: Connection, message: ServerMessage) -> None:
        """To one connection."""
        encoded = encode(message)
        self._effects.append(lambda: connection.push(encoded))

    def broadcast(
        self, message: ServerMessage, *, exclude: Iterable[str] = (), tag: str | None = None
    ) -> None:
        """To every connection but those with an id in `exclude`; encoded once.

        It goes to those who are in the room now: who comes later, be it before this is durable,
        has it in the snapshot.
        """
        encoded = encode(message)
        present = self.connections(tag)
        if left_out := frozenset(exclude):
            present = [c for c in present if c.id not in left_out]

        def push() -> None:
            for connection in present:
                connection.push(encoded)

        self._effects.append(push)

    def close(self, connection: Connection, code: int, reason: str) -> None:
        ending = Close(code, reason)  # a code that is never sent fails the handler, not the commit
        self._effects.append(lambda: connection.close(ending.code, ending.reason))

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], key: str) -> None:
        """Run `work` beside the object; a later `cancel(key)` ends it."""
        self._effects.append(lambda: self._host.spawn(work(), key))

    def cancel(self, key: str) -> None:
        self._effects.append(lambda: self._host.cancel(key))

    def detach(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` that nothing depends on and that outlives this instance, such as tidying up
        after it."""
        self._effects.append(lambda: self._host.detach(work()))

    def tell(self, kind: str, name: str, method: str, *arguments: Any, then: object = None) -> None:
        """Call another object's method without waiting for it.

        `then` comes back as an event when what the other did is durable; it does not come when
        that fails or the process ends first.
        """

        def done() -> None:
            if then is not None:
                self.post(then)

        self._tells.append(lambda: self._host.tell(kind, name, method, arguments, done))

    def destroy(self) -> None:
        """Remove the object and its file once the handler is done.

        What the handler tells others leaves when the file is gone, so that nobody forgets an
        object that a crash has left behind.
        """
        self._destroying = True

    # --- At once ------------------------------------------------------------------------------

    def post(self, event: object) -> None:
        """Put an event into the object's own mailbox; for the work beside it.

        It is dropped when the instance that began the work is gone: the next one began anew.
        """
        self._host.post(event, self)

    def connections(self, tag: str | None = None) -> list[Connection]:
        connected = self._host.connected()
        return list(connected) if tag is None else [c for c in connected if tag in c.tags]

    # --- Alarm --------------------------------------------------------------------------------

    def set_alarm(self, due: float) -> None:
        """Replace the alarm; `due` in seconds since the Unix epoch."""
        self.storage.set_alarm(due)
        self.alarm_changed = True

    def get_alarm(self) -> float | None:
        alarm = self.storage.alarm()
        return None if alarm is None else alarm.due

    def delete_alarm(self) -> None:
        self.storage.delete_alarm()
        self.alarm_changed = True

    # --- For the runtime ----------------------------------------------------------------------

    def take(self) -> Outcome:
        """What the handler that has just ended asked for."""
        outcome = Outcome(self._effects, self._tells, self._destroying, self.alarm_changed)
        self._effects, self._tells = [], []
        self._destroying = self.alarm_changed = False
        return outcome


class DurableObject:
    """Base of every object. Each hook is one transaction; a raise in it undoes all of it."""

    migrations: ClassVar[tuple[str, ...]] = ()
    """SQL scripts; the n-th brings the schema from version n to n + 1. Add, never change."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def on_start(self) -> None:
        """Before any other event of this instance."""

    def on_connect(self, connection: Connection) -> None: ...

    def on_message(self, connection: Connection, message: str | bytes) -> None: ...

    def on_close(self, connection: Connection) -> None: ...

    def on_event(self, event: object) -> None:
        """What the work beside the object has posted."""

    def on_alarm(self, retry_count: int) -> None: ...

    def on_hibernate(self) -> None:
        """Nothing has happened for a while: the instance and its database are about to be
        released, its connections stay. What must last goes into storage or an attachment."""


Factory = Callable[[Context], DurableObject]
