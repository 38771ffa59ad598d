"""Transaction that handlers share. Their effects are held back until the transaction is durable."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from prepserver.errors import PrepServerError, StorageError
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject, Outcome
from prepserver.objects.storage import Storage

__all__ = ["MailboxOwner", "QueuedEvent", "Transaction", "to_server_error"]

log = structlog.get_logger(__name__)


class MailboxOwner(Protocol):
    """Interface of an instance for its mailbox and its transactions."""

    @property
    def awake(self) -> bool:
        """True while the object is in memory and has not been destroyed."""

    async def wake(self) -> None: ...
    def begin(self) -> "Transaction": ...
    async def commit(self, transaction: "Transaction") -> None: ...
    async def reset(self) -> None: ...
    def destroy(self, on_removed: Callable[[], None]) -> None: ...
    def report_failure(self, event: "QueuedEvent", error: PrepServerError) -> None: ...


class QueuedEvent:
    """Event for an object to handle, with the future, if any, that receives the result."""

    __slots__ = ("_result", "connection", "handler", "message")

    def __init__(
        self,
        handler: Callable[[DurableObject], Any],
        result: asyncio.Future[Any] | None = None,
        connection: Connection | None = None,
        message: str | bytes = b"",
    ) -> None:
        """Create an event, with the connection and the message that caused it, if any."""
        self.handler = handler
        self.connection = connection
        self.message = message
        self._result = result

    def settle(self, owner: MailboxOwner, value: Any, error: PrepServerError | None) -> None:
        """Pass the handler's value or error to the future, if there is one.

        An error is also reported to `owner`, which informs the clients.
        """
        if error is not None:
            owner.report_failure(self, error)
        if self._result is None or self._result.done():
            return
        if error is None:
            self._result.set_result(value)
        else:
            self._result.set_exception(error)
            # Marks the exception as retrieved: awaiting the result is optional.
            self._result.exception()


class HandledEvent:
    """Event that has been handled, with the handler's value and outcome or with the error."""

    __slots__ = ("error", "event", "outcome", "value")

    def __init__(self, event: QueuedEvent) -> None:
        self.event = event
        self.value: Any = None
        self.outcome: Outcome | None = None
        self.error: PrepServerError | None = None


class Transaction:
    """Transaction of several handlers; a failing handler rolls back only its own writes.

    Effects and errors are held back until `flush`, so that clients are answered in the
    order of their requests.
    """

    __slots__ = ("_context", "_lost", "_object", "alarm_changed", "ended", "handled", "reset")

    def __init__(self, object: DurableObject, context: Context) -> None:
        self._object = object
        self._context = context
        self._lost: StorageError | None = None
        self.handled: list[HandledEvent] = []
        self.alarm_changed = False
        self.ended = False
        """True once no further handler may join because the object will be destroyed or reset."""
        self.reset = False
        """True after an unexpected error, which may have left the object inconsistent."""

    @property
    def storage(self) -> Storage:
        return self._context.storage

    @property
    def needs_commit(self) -> bool:
        """True if there is a write to commit, an alarm to update or a failed rollback to report."""
        return self.alarm_changed or self._lost is not None or self._context.storage.has_writes

    def run_handler(self, event: QueuedEvent) -> None:
        """Run the handler of one event. An error is kept for `flush`, not raised."""
        handled = HandledEvent(event)
        self.handled.append(handled)
        storage, context = self._context.storage, self._context
        nested: bool | None = None
        try:
            nested = storage.savepoint()
            handled.value = event.handler(self._object)
            storage.release(nested)
        except Exception as error:
            context.take_outcome()
            handled.error = to_server_error(error)
            try:
                if nested is None and isinstance(error, StorageError):
                    raise
                storage.rollback_to(bool(nested))
            except StorageError as lost:
                self._lost = lost
            if handled.error.status >= 500:
                self.reset = self.ended = True
        else:
            handled.outcome = context.take_outcome()
            self.alarm_changed = self.alarm_changed or handled.outcome.alarm_changed
            self.ended = handled.outcome.destroying

    def require_intact(self) -> None:
        """Raise StorageError if a rollback has failed or has undone writes of other handlers."""
        if self._lost is not None:
            raise self._lost

    def flush(self, owner: MailboxOwner) -> None:
        """Release all effects and results in order. Called once the transaction is durable."""
        for handled in self.handled:
            if handled.outcome is not None:
                _flush_outcome(handled.outcome, owner)
            handled.event.settle(owner, handled.value, handled.error)

    def discard(self, owner: MailboxOwner, error: PrepServerError) -> None:
        """Drop all effects. Each caller receives its handler's error or, without one, `error`."""
        for handled in self.handled:
            handled.event.settle(owner, None, handled.error or error)


def _flush_outcome(outcome: Outcome, owner: MailboxOwner) -> None:
    for effect in outcome.effects:
        try:
            effect()
        except Exception:
            # The write is durable: one failing effect must not hold up the rest.
            log.exception("object.effect_failed")

    if outcome.destroying:
        owner.destroy(outcome.send_tells)
    else:
        outcome.send_tells()


def to_server_error(error: Exception) -> PrepServerError:
    """Return `error` if it is a PrepServerError; otherwise log it and return a general error."""
    if isinstance(error, PrepServerError):
        return error
    log.error("object.failed", exc_info=error)
    return PrepServerError(
        "The server failed to handle the request. Saved data is safe; try again.", retryable=True
    )
