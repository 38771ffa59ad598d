"""A client that shakes hands and then reads nothing, as a stopped process or a dead host would."""

import contextlib
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.http11 import Response
from websockets.uri import parse_uri

from prepserver.wire import codec
from prepserver.wire import protocol as wire

__all__ = ["Deaf"]

PATIENCE = 20.0
"""Seconds."""

HELD_BY_KERNEL = 4_096
"""Bytes that the client's side of the connection takes, so that little is hidden there."""


class Deaf:
    """It can speak, and it does not answer pings either."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BY_KERNEL)
        self._socket.settimeout(PATIENCE)
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

    def send(self, message: wire.ClientMessage) -> None:
        self._protocol.send_text(codec.encode(message))
        self._flush()

    def is_cut_off(self) -> bool:
        """Whether the server has given the connection up: what is sent is answered by a reset."""
        try:
            self._socket.send(b"\x8a\x80\x00\x00\x00\x00")  # a pong, which nobody answers
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    def read(self, size: int) -> int:
        """Read up to so many bytes; 0 when the connection has ended."""
        try:
            return len(self._socket.recv(size))
        except ConnectionResetError:
            return 0

    def ending(self) -> int | None:
        """Read all that has come, to the close frame; its code, None when there is none yet."""
        self._socket.settimeout(1.0)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while self._protocol.close_rcvd is None and (data := self._socket.recv(65_536)):
                self._protocol.receive_data(data)
        close = self._protocol.close_rcvd
        return None if close is None else close.code

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._protocol.data_to_send()))
