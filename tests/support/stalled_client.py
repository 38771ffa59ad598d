"""WebSocket client that stops reading after the handshake, as a suspended process does."""

import contextlib
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.http11 import Response
from websockets.uri import parse_uri

from prepserver.wire import client_messages, codec

__all__ = ["StalledClient"]

TIMEOUT = 20.0
"""Seconds of real time after which an operation on the socket fails."""

RECEIVE_BUFFER = 4_096
"""Size of the client's kernel buffer in bytes, small so that the buffer absorbs few messages."""


class StalledClient:
    """Client that sends messages, but reads only on request and answers no pings."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect((address.hostname, address.port))
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while True:
            self._protocol.receive_data(self._socket.recv(1))
            events = self._protocol.events_received()
            if events:
                break
        assert isinstance(events[0], Response)
        assert events[0].status_code == 101

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, message: client_messages.ClientMessage) -> None:
        self._protocol.send_text(codec.encode(message))
        self._flush()

    def is_reset(self) -> bool:
        """Return True if the server has aborted the connection and answers data with a reset."""
        try:
            self._socket.send(b"\x8a\x80\x00\x00\x00\x00")  # an unsolicited pong
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    def read(self, size: int) -> int:
        """Read up to `size` bytes; return the number of bytes read, or 0 at the end of the
        connection."""
        try:
            return len(self._socket.recv(size))
        except ConnectionResetError:
            return 0

    def read_close_code(self) -> int | None:
        """Read up to the close frame and return the close code; None if the connection ends first
        or no data arrives for a second."""
        self._socket.settimeout(1.0)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while self._protocol.close_rcvd is None and (data := self._socket.recv(65_536)):
                self._protocol.receive_data(data)
        close = self._protocol.close_rcvd
        return None if close is None else close.code

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._protocol.data_to_send()))
