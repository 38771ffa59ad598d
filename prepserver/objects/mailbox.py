"""One event at a time, in the order of arrival; those that wait together are committed together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from prepserver.objects.transaction import MailboxOwner, QueuedEvent, Transaction, typed

__all__ = ["Mailbox"]

MOST_TOGETHER = 64
"""Events that share one transaction, at most: it should not grow without bound."""

log = structlog.get_logger(__name__)


Work = Callable[[], Awaitable[None]]
"""Something about the object's life that has its turn between events; it does not raise."""


class Mailbox:
    """Runs what is put in, one after the other.

    An event that finds the object awake and nothing before it is handled on the stack of whoever
    put it in, and if it wrote nothing it is done by then. Only what has to be waited for, the disk
    above all, goes on in a task, which ends when the mailbox is empty.
    """

    __slots__ = ("_handling", "_resident", "_task", "_waiting")

    def __init__(self, resident: MailboxOwner) -> None:
        self._resident = resident
        self._waiting: deque[QueuedEvent | Work] = deque()
        self._handling = False
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None or self._handling or bool(self._waiting)

    def put(self, item: QueuedEvent | Work) -> None:
        self._waiting.append(item)
        if self._task is None and not self._handling:
            self._handling = True
            try:
                self._run()
            finally:
                self._handling = False

    async def drain(self) -> None:
        """Return when everything put in so far has run."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _run(self) -> None:
        """Handle what can be handled without waiting, and leave the rest to a task."""
        resident = self._resident
        transaction: Transaction | None = None
        while self._waiting and resident.awake and isinstance(self._waiting[0], QueuedEvent):
            transaction = self._handle()
            if transaction.needs_disk or transaction.reset:
                break
            transaction.storage.rollback()
            transaction.release(resident)
            transaction = None
        if transaction is not None or self._waiting:
            self._task = asyncio.get_running_loop().create_task(self._go_on(transaction))

    def _handle(self) -> Transaction:
        """Run the handlers of the events that wait, in one transaction."""
        transaction = self._resident.begin()
        while (
            self._waiting
            and isinstance(event := self._waiting[0], QueuedEvent)
            and not transaction.ended
            and len(transaction.handled) < MOST_TOGETHER
        ):
            self._waiting.popleft()
            transaction.run(event)
        return transaction

    async def _go_on(self, transaction: Transaction | None) -> None:
        try:
            while transaction is not None or self._waiting:
                try:
                    if transaction is None:
                        transaction = await self._next()
                    if transaction is not None:
                        await self._complete(transaction)
                except Exception:
                    # Whatever it was, those behind it in the queue have nothing to do with it.
                    log.exception("mailbox.failed")
                transaction = None
        finally:
            self._task = None

    async def _next(self) -> Transaction | None:
        """Take what is first: events, in a transaction that is to be completed, or else."""
        first = self._waiting[0]
        if not isinstance(first, QueuedEvent):
            self._waiting.popleft()
            await first()
            return None
        if self._resident.awake:
            return self._handle()
        try:
            await self._resident.wake()
        except Exception as error:
            # The event that needed the object is told; the next one tries again.
            self._waiting.popleft()
            first.settle(self._resident, None, typed(error))
        return None

    async def _complete(self, transaction: Transaction) -> None:
        """Wait for the disk, then let out what waited for it."""
        try:
            await self._resident.commit(transaction)
        except Exception as error:
            transaction.discard(self._resident, typed(error))
            return
        transaction.release(self._resident)
        if transaction.reset:
            await self._resident.reset()
