"""Queue of an object's events, which are handled one at a time and committed in groups."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from prepserver.objects.transaction import (
    MailboxOwner,
    QueuedEvent,
    Transaction,
    to_server_error,
)

__all__ = ["Mailbox"]

MAX_EVENTS_PER_TRANSACTION = 64

log = structlog.get_logger(__name__)


Work = Callable[[], Awaitable[None]]
"""Step of the object's life cycle, such as a reset, that runs between events and never raises."""


class Mailbox:
    """Queue that runs events and work in order of arrival.

    If the object is awake and the queue is empty, an event is handled at once, on the caller's
    stack. An event whose handler has written nothing is then complete. Anything that has to wait,
    such as a commit, continues in a task, which ends when the queue is empty.
    """

    __slots__ = ("_handling", "_owner", "_queue", "_task")

    def __init__(self, owner: MailboxOwner) -> None:
        self._owner = owner
        self._queue: deque[QueuedEvent | Work] = deque()
        self._handling = False
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """True while an event or work is running or queued."""
        return self._task is not None or self._handling or bool(self._queue)

    def enqueue(self, item: QueuedEvent | Work) -> None:
        """Add an event or work, and start handling it at once if nothing is running."""
        self._queue.append(item)
        if self._task is None and not self._handling:
            self._handling = True
            try:
                self._run_now()
            finally:
                self._handling = False

    async def drain(self) -> None:
        """Wait until the queue is empty and nothing is running."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _run_now(self) -> None:
        """Handle events until one has to wait, and leave everything else to a task."""
        owner = self._owner
        transaction: Transaction | None = None
        while self._queue and owner.awake and isinstance(self._queue[0], QueuedEvent):
            transaction = self._handle_events()
            if transaction.needs_commit or transaction.reset:
                break
            transaction.storage.rollback()
            transaction.flush(owner)
            transaction = None
        if transaction is not None or self._queue:
            self._task = asyncio.get_running_loop().create_task(self._run_rest(transaction))

    def _handle_events(self) -> Transaction:
        """Handle the events at the head of the queue in one transaction; return the transaction."""
        transaction = self._owner.begin()
        while (
            self._queue
            and isinstance(event := self._queue[0], QueuedEvent)
            and not transaction.ended
            and len(transaction.handled) < MAX_EVENTS_PER_TRANSACTION
        ):
            self._queue.popleft()
            transaction.run_handler(event)
        return transaction

    async def _run_rest(self, transaction: Transaction | None) -> None:
        """Complete `transaction`, if there is one, then run everything that is queued."""
        try:
            while transaction is not None or self._queue:
                try:
                    if transaction is None:
                        transaction = await self._run_next()
                    if transaction is not None:
                        await self._complete(transaction)
                except Exception:
                    # The events behind it in the queue are unaffected.
                    log.exception("mailbox.failed")
                transaction = None
        finally:
            self._task = None

    async def _run_next(self) -> Transaction | None:
        """Run the work or the events at the head of the queue, or wake the object for them.

        Return the transaction of the events that were handled, or None.
        """
        first = self._queue[0]
        if not isinstance(first, QueuedEvent):
            self._queue.popleft()
            await first()
            return None
        if self._owner.awake:
            return self._handle_events()
        try:
            await self._owner.wake()
        except Exception as error:
            # Only the first event fails; the next one tries to wake the object again.
            self._queue.popleft()
            first.settle(self._owner, None, to_server_error(error))
        return None

    async def _complete(self, transaction: Transaction) -> None:
        """Commit a transaction, then release its effects. Report the error if the commit fails."""
        try:
            await self._owner.commit(transaction)
        except Exception as error:
            transaction.discard(self._owner, to_server_error(error))
            return
        transaction.flush(self._owner)
        if transaction.reset:
            await self._owner.reset()
