"""One event at a time, in the order of arrival."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

__all__ = ["Mailbox"]

log = structlog.get_logger(__name__)

Handler = Callable[[], Awaitable[None]]


class Mailbox:
    """Runs what is put in, one after the other, in a task that ends when it is empty."""

    def __init__(self) -> None:
        self._waiting: deque[Handler] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None

    def put(self, handler: Handler) -> None:
        """`handler` must not raise: it reports its own errors."""
        self._waiting.append(handler)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._waiting.popleft()()
                except Exception:
                    # Whatever it was, those behind it in the queue have nothing to do with it.
                    log.exception("mailbox.handler_failed")
        finally:
            self._task = None

    async def drain(self) -> None:
        """Return when everything put in so far has run."""
        while self._task is not None:
            await asyncio.wait([self._task])
