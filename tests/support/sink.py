"""A client's end of a connection without a network: a socket that keeps what is written."""

import asyncio
from collections import deque

from prepserver.objects.connection import Close, Connection

__all__ = ["Sink"]


class Sink:
    """Attached to a connection at once; reads with `next`."""

    def __init__(self, connection: Connection, *, room: int | None = None) -> None:
        """`room` is how many messages fit before somebody reads; None means that all do."""
        self._connection = connection
        self._room = room
        self._written: deque[bytes | Close] = deque()
        self._changed = asyncio.Event()
        connection.attach(self)

    def write(self, message: bytes) -> bool:
        self._written.append(message)
        self._changed.set()
        return self._room is None or len(self._written) < self._room

    def close(self, code: int, reason: str) -> None:
        self._written.append(Close(code, reason))
        self._changed.set()

    async def next(self) -> bytes | Close:
        """The next message, waiting for it; a Close is the last."""
        while not self._written:
            self._changed.clear()
            await self._changed.wait()
        message = self._written.popleft()
        if self._room is not None and len(self._written) < self._room:
            self._connection.drain()
        return message
