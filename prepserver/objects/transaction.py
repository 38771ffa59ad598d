"""Handlers that become durable together, and what each of them lets out then."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from prepserver.errors import PrepServerError, StorageError
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject, Outcome
from prepserver.objects.storage import Storage

__all__ = ["MailboxOwner", "QueuedEvent", "Transaction", "typed"]

log = structlog.get_logger(__name__)


class MailboxOwner(Protocol):
    """Whose mailbox it is."""

    @property
    def awake(self) -> bool: ...
    async def wake(self) -> None: ...
    def begin(self) -> "Transaction": ...
    async def commit(self, transaction: "Transaction") -> None: ...
    async def reset(self) -> None: ...
    def destroy(self, then: Callable[[], None]) -> None: ...
    def told(self, event: "QueuedEvent", error: PrepServerError) -> None: ...


class QueuedEvent:
    """Something for the object to handle, and where its result goes."""

    __slots__ = ("_result", "connection", "handler", "message")

    def __init__(
        self,
        handler: Callable[[DurableObject], Any],
        result: asyncio.Future[Any] | None = None,
        connection: Connection | None = None,
        message: str | bytes = b"",
    ) -> None:
        """`connection` and `message` say who caused it, and by what."""
        self.handler = handler
        self.connection = connection
        self.message = message
        self._result = result

    def settle(self, resident: MailboxOwner, value: Any, error: PrepServerError | None) -> None:
        """It was handled, or failed."""
        if error is not None:
            resident.told(self, error)
        if self._result is None or self._result.done():
            return
        if error is None:
            self._result.set_result(value)
        else:
            self._result.set_exception(error)
            # Whoever wants the outcome awaits it; nobody has to.
            self._result.exception()


class HandledEvent:
    """An event and what its handler came to: a value and an outcome, or an error."""

    __slots__ = ("error", "event", "outcome", "value")

    def __init__(self, event: QueuedEvent) -> None:
        self.event = event
        self.value: Any = None
        self.outcome: Outcome | None = None
        self.error: PrepServerError | None = None


class Transaction:
    """Handlers run one after the other; one that raises takes back only what it wrote itself.

    What they let out waits in order until `release`; errors of refused handlers wait with it, so
    that a client is answered in the order in which it asked.
    """

    __slots__ = ("_context", "_instance", "_lost", "alarm_changed", "ended", "handled", "reset")

    def __init__(self, instance: DurableObject, context: Context) -> None:
        self._instance = instance
        self._context = context
        self._lost: StorageError | None = None
        self.handled: list[HandledEvent] = []
        self.alarm_changed = False
        self.ended = False
        """Whether no other handler may join: the object is to go, or to be reset."""
        self.reset = False
        """Whether a handler left the instance in a state that nobody foresaw."""

    @property
    def storage(self) -> Storage:
        return self._context.storage

    @property
    def needs_disk(self) -> bool:
        """Whether there is something to commit."""
        return self.alarm_changed or self._lost is not None or self._context.storage.wrote

    def run(self, event: QueuedEvent) -> None:
        """Run one handler; never raises."""
        handled = HandledEvent(event)
        self.handled.append(handled)
        storage, context = self._context.storage, self._context
        marked: bool | None = None
        try:
            marked = storage.mark()
            handled.value = event.handler(self._instance)
            storage.keep(marked)
        except Exception as error:
            context.take()
            handled.error = typed(error)
            try:
                if marked is None and isinstance(error, StorageError):
                    raise
                storage.undo(bool(marked))
            except StorageError as lost:
                self._lost = lost
            if handled.error.status >= 500:
                self.reset = self.ended = True
        else:
            handled.outcome = context.take()
            self.alarm_changed = self.alarm_changed or handled.outcome.alarm_changed
            self.ended = handled.outcome.destroying

    def require_whole(self) -> None:
        """Raises StorageError when the disk took back more than the handler that failed wrote."""
        if self._lost is not None:
            raise self._lost

    def release(self, resident: MailboxOwner) -> None:
        """It is durable: let everything out, in order."""
        for handled in self.handled:
            if handled.outcome is not None:
                _let_out(handled.outcome, resident)
            handled.event.settle(resident, handled.value, handled.error)

    def discard(self, resident: MailboxOwner, error: PrepServerError) -> None:
        """It is gone: nothing leaves but the error, to everybody who asked."""
        for handled in self.handled:
            handled.event.settle(resident, None, handled.error or error)


def _let_out(outcome: Outcome, resident: MailboxOwner) -> None:
    for effect in outcome.effects:
        try:
            effect()
        except Exception:
            # It is stored: what is behind it in the queue must still leave.
            log.exception("object.effect_failed")

    if outcome.destroying:
        resident.destroy(outcome.tell)
    else:
        outcome.tell()


def typed(error: Exception) -> PrepServerError:
    """What clients are told of an error: itself, or that something unforeseen happened."""
    if isinstance(error, PrepServerError):
        return error
    log.error("object.failed", exc_info=error)
    return PrepServerError(
        "The server could not do this; what was saved before is safe. Try again.", retryable=True
    )
