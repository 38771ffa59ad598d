"""Client connection as seen by an object: an id, attached state and a bounded outbox."""

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
MAX_STATE_BYTES = 16_384
"""Maximum size in bytes of a connection's state, encoded as JSON."""
MAX_REASON_BYTES = 123
"""Maximum size in bytes of the reason in a close frame (RFC 6455, 5.5)."""

RESERVED_CODES = frozenset({1005, 1006, 1015})
"""Close codes that a library reports locally and that must not be sent (RFC 6455, 7.4.1)."""


class Close(Struct, frozen=True):
    """Code and reason of a close frame. A code that must not be sent raises ValueError."""

    code: int
    reason: str = ""

    def __post_init__(self) -> None:
        if self.code in RESERVED_CODES or not 1000 <= self.code < 5000:
            raise ValueError(f"the close code {self.code} may not be sent")


class Socket(Protocol):
    """Transport to which a connection writes. Its methods neither wait nor raise."""

    def write(self, message: bytes) -> bool:
        """Send one text message. Return True if there is room for another message.

        After returning False, the socket calls the connection's `drain` once there is room again.
        """

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and end the connection."""


class Connection:
    """Connection to which an object sends messages.

    A message is written to the socket at once if the socket has room, and queued otherwise. The
    queue holds references, so a message to many slow connections is stored once. A client that
    falls too far behind is disconnected; the object never waits for a client.
    """

    __slots__ = (
        "_full",
        "_queue",
        "_queued_bytes",
        "_socket",
        "_state",
        "closing",
        "id",
        "tags",
    )

    def __init__(self, id: str, tags: tuple[str, ...] = ()) -> None:
        """Create a connection without a socket.

        Raises BadRequest if there are more than `MAX_TAGS` tags.
        """
        if len(tags) > MAX_TAGS:
            raise BadRequest(f"The connection has {len(tags)} tags; the maximum is {MAX_TAGS}.")
        self.id = id
        self.tags = tags
        self.closing: Close | None = None
        """Code and reason for closing the connection; None while the connection is open."""
        self._state = b"null"
        self._socket: Socket | None = None
        self._full = True
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0

    @property
    def state(self) -> Any:
        """Plain data that the object attaches to the connection and that survives hibernation.

        The setter raises BadRequest if the data exceed `MAX_STATE_BYTES` as JSON.
        """
        return msgspec.json.decode(self._state)

    @state.setter
    def state(self, value: Any) -> None:
        encoded = msgspec.json.encode(value)
        if len(encoded) > MAX_STATE_BYTES:
            raise BadRequest(
                f"The connection's state is {len(encoded)} bytes long; the maximum is "
                f"{MAX_STATE_BYTES}."
            )
        self._state = encoded

    # --- For the object -----------------------------------------------------------------------

    def push(self, message: bytes) -> None:
        """Send or queue an encoded message. Do nothing once the connection is closing.

        If the queue is full, close the connection with code 4008 instead.
        """
        if self.closing is not None:
            return
        if not self._full and self._socket is not None:
            self._full = not self._socket.write(message)
            return
        # The limit applies to the queue without this message: a single message above the limit,
        # such as a long snapshot, still reaches a client that keeps up.
        if self._queued_bytes >= MAX_QUEUED_BYTES or len(self._queue) >= MAX_QUEUED_MESSAGES:
            self._clear_queue()
            self.close(CLOSE_SLOW, "too far behind: connect again to resume from a snapshot")
            return
        self._queue.append(message)
        self._queued_bytes += len(message)

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection once the queued messages are sent.

        Only the first call has an effect. A reason that is too long for a close frame is cut.
        Raises ValueError if the close code must not be sent.
        """
        ending = Close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        if self.closing is None:
            self.closing = ending
            if not self._queue:
                self._close_socket(ending)

    # --- For the socket -----------------------------------------------------------------------

    def attach(self, socket: Socket) -> None:
        """Set the socket to which all queued and later messages are written."""
        self._socket = socket
        self.drain()

    def drain(self) -> None:
        """Write queued messages until the socket is full. Called when the socket has room again.

        Once the queue is empty, the close frame is sent, if one is due.
        """
        if self._socket is None:
            return
        self._full = False
        while self._queue and not self._full:
            message = self._queue.popleft()
            self._queued_bytes -= len(message)
            self._full = not self._socket.write(message)
        if self.closing is not None and not self._queue:
            self._close_socket(self.closing)

    def detach(self) -> None:
        """Release the socket of a disconnected client. Drop all queued and later messages."""
        self._socket = None
        self._clear_queue()
        if self.closing is None:
            self.closing = Close(1000)

    # ------------------------------------------------------------------------------------------

    def _close_socket(self, ending: Close) -> None:
        if self._socket is not None:
            # Cleared first: the socket is closed once.
            socket, self._socket = self._socket, None
            socket.close(ending.code, ending.reason)

    def _clear_queue(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
