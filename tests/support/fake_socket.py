"""In-memory socket for a Connection, which buffers written messages."""

import asyncio
from collections import deque

from prepserver.objects.connection import Close, Connection

__all__ = ["FakeSocket"]


class FakeSocket:
    """Socket that attaches itself to a connection; `next` reads what the connection writes."""

    def __init__(self, connection: Connection, *, capacity: int | None = None) -> None:
        """Attach a socket that is full once `capacity` messages are unread; None means no limit."""
        self._connection = connection
        self._capacity = capacity
        self._written: deque[bytes | Close] = deque()
        self._changed = asyncio.Event()
        connection.attach(self)

    def write(self, message: bytes) -> bool:
        self._written.append(message)
        self._changed.set()
        return self._capacity is None or len(self._written) < self._capacity

    def close(self, code: int, reason: str) -> None:
        self._written.append(Close(code, reason))
        self._changed.set()

    async def next(self) -> bytes | Close:
        """Wait for the next message and return it; the last message is a Close."""
        while not self._written:
            self._changed.clear()
            await self._changed.wait()
        message = self._written.popleft()
        if self._capacity is not None and len(self._written) < self._capacity:
            self._connection.drain()
        return message
