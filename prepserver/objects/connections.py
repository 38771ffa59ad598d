"""One client's socket as an object sees it: an identity, an attachment, and a bounded outbox."""

import asyncio
from collections import deque
from typing import Any

import msgspec
from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.protocol import CLOSE_SLOW

__all__ = ["Close", "Connection"]

MAX_QUEUED_BYTES = 1024 * 1024
MAX_QUEUED_MESSAGES = 1_024
MAX_TAGS = 10
MAX_ATTACHMENT = 16_384
"""Bytes of encoded attachment."""

NEVER_SENT = frozenset({1005, 1006, 1015})
"""Close codes that a peer is told by its own library."""


class Close(Struct, frozen=True):
    code: int
    reason: str


class Connection:
    """What an object sends to, and what the edge drains.

    The object puts whole frames in with `push`; the edge takes them out with `next_frame` and
    writes them to the socket. A client that does not keep up is closed, never waited for.
    """

    def __init__(self, id: str, tags: tuple[str, ...] = ()) -> None:
        if len(tags) > MAX_TAGS:
            raise BadRequest(f"A connection has at most {MAX_TAGS} tags.")
        self.id = id
        self.tags = tags
        self.closing: Close | None = None
        self._attachment = b"null"
        self._frames: deque[str] = deque()
        self._queued = 0
        self._changed = asyncio.Event()

    @property
    def state(self) -> Any:
        """The attachment: plain data that an object keeps with a connection."""
        return msgspec.json.decode(self._attachment)

    @state.setter
    def state(self, value: Any) -> None:
        encoded = msgspec.json.encode(value)
        if len(encoded) > MAX_ATTACHMENT:
            raise BadRequest(f"A connection's state is at most {MAX_ATTACHMENT} bytes.")
        self._attachment = encoded

    def push(self, frame: str) -> None:
        """Queue one text frame; closes the connection with 4008 when it is too far behind."""
        if self.closing is not None:
            return
        # The bound is on what waits already: one frame larger than it, such as a long snapshot,
        # still goes to a client that keeps up.
        if self._queued >= MAX_QUEUED_BYTES or len(self._frames) >= MAX_QUEUED_MESSAGES:
            self._frames.clear()
            self._queued = 0
            self.close(CLOSE_SLOW, "too far behind: connect again to resume from a snapshot")
            return
        self._frames.append(frame)
        self._queued += _bytes(frame)
        self._changed.set()

    def close(self, code: int, reason: str = "") -> None:
        """End the connection after what is queued; the first call counts.

        Raises ValueError for a code that stands for the absence of one and is never sent.
        """
        if code in NEVER_SENT:
            raise ValueError(f"the close code {code} is never sent")
        if self.closing is None:
            self.closing = Close(code, reason)
            self._changed.set()

    async def next_frame(self) -> str | Close:
        """The next thing to write to the socket; a Close is the last."""
        while True:
            if self._frames:
                frame = self._frames.popleft()
                self._queued -= _bytes(frame)
                return frame
            if self.closing is not None:
                return self.closing
            self._changed.clear()
            await self._changed.wait()


def _bytes(frame: str) -> int:
    """As they go over the wire."""
    return len(frame) if frame.isascii() else len(frame.encode())
