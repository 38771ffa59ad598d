"""Connections between the client's real Room and the server's real socket, without a network.

Like TCP, a link neither loses nor reorders data until it is cut; each side then learns of the cut
independently. A frozen link stands for a client that is too busy to read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from prepserver.clock import Clock
from prepserver.http.sockets import Sockets

__all__ = ["CAPACITY", "Link", "Network"]

CAPACITY = 4
"""Number of server writes that the kernels buffer for a client that does not read."""


class Server(Protocol):
    """Server process at the other end of a link."""

    sockets: Sockets
    state: ServerState

    def spawn(self, coro: Any) -> asyncio.Task[Any]: ...
    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None: ...


class Link(asyncio.Transport):
    """Connection that replaces websockets' ClientConnection on the client and the transport on the
    server.

    The client's end of the protocol is websockets' own implementation without I/O.
    """

    def __init__(self, server: Server, url: str, network: "Network") -> None:
        super().__init__()
        self._network = network
        self.server = server
        self.frozen = False
        self.close_code: int | None = None
        self.messages_read = 0
        """Number of messages that the client has read since the link was last frozen or thawed."""
        self._client = ClientProtocol(parse_uri(url), max_size=None)
        self._to_server: deque[bytes] = deque()
        self._to_client: deque[bytes] = deque()
        self._messages: deque[str] = deque()
        self._reading = True
        self._writing_paused = False
        self._cut = False
        """True once the client knows that the connection is lost or closed."""
        self._closed = False
        """True once the server's end is closed and sends nothing more."""
        self._loss_detected = False
        """True once the server's socket knows that the connection is lost."""
        self._changed = asyncio.Event()
        self.answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._socket = server.sockets.create_protocol(None, server.state, None)
        self._socket.connection_made(self)
        self._client.send_request(self._client.connect())
        self._flush()

    @property
    def is_idle(self) -> bool:
        """True while the link is working and holds neither data in transit nor unread messages."""
        return not (
            self._to_server
            or self._to_client
            or self._messages
            or self.frozen
            or self._cut
            or self._closed
        )

    # --- Faults -------------------------------------------------------------------------------

    def freeze(self, frozen: bool) -> None:
        if frozen is not self.frozen:
            self.frozen, self.messages_read = frozen, 0
            self._receive()

    def cut(self, delivered: int) -> None:
        """Cut the client off; only the client's first `delivered` writes in transit can still reach
        the server."""
        self._cut = True
        while len(self._to_server) > delivered:
            self._to_server.pop()
        self._to_client.clear()
        self._notify()

    def detect_loss(self) -> None:
        """Notify the server's socket of the loss; data still in transit to the server is not
        delivered."""
        if not self._loss_detected:
            self._loss_detected = self._closed = True
            self.server.call_soon(self._socket.connection_lost, None)
        self._notify()

    def end(self) -> None:
        """Close the connection as the kernel does when the server's process ends."""
        self._closed = self._loss_detected = True
        self._notify()

    # --- The client's end ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cut = True
        self.detect_loss()

    async def send(self, data: str | bytes) -> None:
        if self._cut or self._client.close_rcvd is not None:
            raise ConnectionClosedError(None, None)
        if isinstance(data, str):
            self._network.sent_texts.append(data)
            self._client.send_text(data.encode())
        else:
            self._client.send_binary(data)
        self._flush()

    async def recv(self) -> str:
        while True:
            if self._cut:
                raise ConnectionClosedError(None, None)
            if self._messages and not self.frozen:
                self.messages_read += 1
                return self._messages.popleft()
            if (close := self._client.close_rcvd) is not None:
                self.close_code = close.code
                self._network.close_codes.append(close.code)
                self._cut = True
                raise ConnectionClosedError(close, None)
            if self._closed and not self._to_client:
                self._cut = True
                continue
            await self._changed.wait()

    def _flush(self) -> None:
        """Send the pending output of the client's protocol."""
        if (data := b"".join(self._client.data_to_send())) and not self._cut:
            self._to_server.append(data)
            self.server.call_soon(self._deliver_to_server)

    def _receive(self) -> None:
        """Read the server's output, unless the client is frozen or cut off."""
        if self.frozen or self._cut:
            return
        while self._to_client:
            self._client.receive_data(self._to_client.popleft())
            for event in self._client.events_received():
                if isinstance(event, Response) and not self.answered.done():
                    self.answered.set_result(event)
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    assert event.fin
                    self._messages.append(bytes(event.data).decode())
        self._flush()
        if self._writing_paused:
            self._writing_paused = False
            self.server.call_soon(self._socket.resume_writing)
        self._notify()

    def _notify(self) -> None:
        """Wake a client that is waiting in `recv`."""
        self._changed.set()
        self._changed = asyncio.Event()

    # --- The server's end: a transport --------------------------------------------------------

    def _deliver_to_server(self) -> None:
        """Deliver the client's output to the server's socket, unless the socket has paused reading
        or knows that the connection is lost."""
        while self._to_server and self._reading and not self._loss_detected:
            self._socket.data_received(self._to_server.popleft())

    def write(self, data: Any) -> None:
        if self._closed:
            return
        self._to_client.append(bytes(data))
        if len(self._to_client) > CAPACITY and not self._writing_paused:
            self._writing_paused = True
            self._socket.pause_writing()
        if not self._cut:
            asyncio.get_running_loop().call_soon(self._receive)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self.detect_loss()

    def abort(self) -> None:
        self._network.aborted += 1
        self._to_client.clear()
        self.close()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.server.call_soon(self._deliver_to_server)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "the transport must not buffer"


class Network:
    """Network that connects clients to the current server."""

    def __init__(self, clock: Clock, server: Callable[[], Server | None]) -> None:
        self._clock = clock
        self._server = server
        self.close_codes: list[int] = []
        """Close codes that clients have received from the server."""
        self.aborted = 0
        """Number of links that the server aborted because the client read nothing or did not answer
        a ping."""
        self.sent_texts: list[str] = []
        """Text messages that clients have sent."""
        self.links: dict[str, Link] = {}
        """Latest link of each client, by the client's name."""
        self.unreachable: dict[str, float] = {}
        """Monotonic time in seconds until which each client's network is down, by the client's
        name."""

    async def connect(self, url: str, timeout: float) -> Link:
        """Connect a client to the server, in place of `prepcli.client.handshake.open_connection`.

        The host of the URL is the name of the client.
        """
        parts = urlsplit(url)
        name = parts.hostname or ""
        server = self._server()
        if server is None or self.unreachable.get(name, 0.0) > self._clock.monotonic():
            raise OSError("connection refused")
        link = self.links[name] = Link(server, url, self)
        deadline = asyncio.ensure_future(self._clock.sleep(timeout))
        try:
            await asyncio.wait((link.answered, deadline), return_when=asyncio.FIRST_COMPLETED)
        finally:
            deadline.cancel()
            if not link.answered.done():
                link.cut(0)
                link.detect_loss()
        if not link.answered.done():
            raise TimeoutError
        response = link.answered.result()
        if response.status_code != 101:
            raise InvalidStatus(response)
        return link

    def cut(self, name: str, *, delivered: int, detected_after: float, outage: float) -> None:
        """Cut the link of a client.

        The server learns of the cut after `detected_after` seconds; until then, the client's first
        `delivered` writes in transit can still reach the server. The client can connect again after
        `outage` seconds.
        """
        self.unreachable[name] = self._clock.monotonic() + outage
        link = self.links.pop(name, None)
        if link is None:
            return
        link.cut(delivered)
        if not detected_after:
            link.detect_loss()
            return

        async def detect_loss_later() -> None:
            await self._clock.sleep(detected_after)
            link.detect_loss()

        link.server.spawn(detect_loss_later())

    def end(self, *, lost: bool) -> None:
        """End all links, as when the server's process ends. If `lost`, messages in transit are
        lost."""
        for link in self.links.values():
            if lost:
                link.cut(0)
            link.end()
