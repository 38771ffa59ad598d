"""One client's socket as an object sees it: an identity, an attachment, and a bounded outbox."""

from collections import deque
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.wire.protocol import CLOSE_SLOW

__all__ = ["Close", "Connection", "Socket"]

MAX_QUEUED_BYTES = 1024 * 1024
MAX_QUEUED_MESSAGES = 1_024
MAX_TAGS = 10
MAX_ATTACHMENT = 16_384
"""Bytes of encoded attachment."""
MAX_REASON = 123
"""Bytes of a close frame's reason (RFC 6455, 5.5)."""

NEVER_SENT = frozenset({1005, 1006, 1015})
"""Close codes that a peer is told by its own library."""


class Close(Struct, frozen=True):
    """How a connection ends. Raises ValueError for a code that is never sent."""

    code: int
    reason: str = ""

    def __post_init__(self) -> None:
        if self.code in NEVER_SENT or not 1000 <= self.code < 5000:
            raise ValueError(f"the close code {self.code} is never sent")


class Socket(Protocol):
    """What a connection writes to. Neither method waits or raises."""

    def write(self, message: bytes) -> bool:
        """Send one text message.

        False means that there is no room for another one yet; the socket calls the connection's
        `drain` when there is.
        """

    def close(self, code: int, reason: str) -> None:
        """Say the last word."""


class Connection:
    """What an object sends to.

    A message goes straight to the socket while that has room, and waits here while it has not;
    what waits are references, so that one message to many slow clients is held once. A client that
    does not keep up is closed, never waited for.
    """

    __slots__ = (
        "_attachment",
        "_full",
        "_queued",
        "_socket",
        "_waiting",
        "closing",
        "id",
        "tags",
    )

    def __init__(self, id: str, tags: tuple[str, ...] = ()) -> None:
        if len(tags) > MAX_TAGS:
            raise BadRequest(f"A connection has at most {MAX_TAGS} tags.")
        self.id = id
        self.tags = tags
        self.closing: Close | None = None
        self._attachment = b"null"
        self._socket: Socket | None = None
        self._full = True
        self._waiting: deque[bytes] = deque()
        self._queued = 0

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

    # --- For the object -----------------------------------------------------------------------

    def push(self, message: bytes) -> None:
        """Send one encoded message; closes the connection with 4008 when it is too far behind."""
        if self.closing is not None:
            return
        if not self._full and self._socket is not None:
            self._full = not self._socket.write(message)
            return
        # The bound is on what waits already: one message larger than it, such as a long snapshot,
        # still goes to a client that keeps up.
        if self._queued >= MAX_QUEUED_BYTES or len(self._waiting) >= MAX_QUEUED_MESSAGES:
            self._forget()
            self.close(CLOSE_SLOW, "too far behind: connect again to resume from a snapshot")
            return
        self._waiting.append(message)
        self._queued += len(message)

    def close(self, code: int, reason: str = "") -> None:
        """End the connection after what waits; the first call counts.

        A reason that is too long for a close frame is cut. Raises ValueError for a code that
        stands for the absence of one and is never sent.
        """
        ending = Close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
        if self.closing is None:
            self.closing = ending
            if not self._waiting:
                self._say_goodbye(ending)

    # --- For the socket -----------------------------------------------------------------------

    def attach(self, socket: Socket) -> None:
        """Write to this socket from now on, first what waits."""
        self._socket = socket
        self.drain()

    def drain(self) -> None:
        """The socket has room: write what waits, as far as the room goes."""
        if self._socket is None:
            return
        self._full = False
        while self._waiting and not self._full:
            message = self._waiting.popleft()
            self._queued -= len(message)
            self._full = not self._socket.write(message)
        if self.closing is not None and not self._waiting:
            self._say_goodbye(self.closing)

    def detach(self) -> None:
        """The client is gone: nothing that is sent to it goes anywhere any more."""
        self._socket = None
        self._forget()
        if self.closing is None:
            self.closing = Close(1000)

    # ------------------------------------------------------------------------------------------

    def _say_goodbye(self, ending: Close) -> None:
        if self._socket is not None:
            # A socket hears it once.
            socket, self._socket = self._socket, None
            socket.close(ending.code, ending.reason)

    def _forget(self) -> None:
        self._waiting.clear()
        self._queued = 0
