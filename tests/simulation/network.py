"""The wire between the client's real Room and the server's real socket, without a network.

A link loses nothing and reorders nothing, as TCP does, until it is cut; then each side learns of
it in its own time. It can be frozen, as when the client's machine is too busy to read.
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
"""Writes of the server that the kernels hold for a client that does not read."""


class Server(Protocol):
    """The life of a server that a link ends in."""

    sockets: Sockets
    state: ServerState

    def spawn(self, coro: Any) -> asyncio.Task[Any]: ...
    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None: ...


class Link(asyncio.Transport):
    """One connection: to the client what websockets' ClientConnection is, to the server's socket
    its transport. In between are websockets' own halves without I/O."""

    def __init__(self, server: Server, url: str, network: "Network") -> None:
        super().__init__()
        self._network = network
        self.server = server
        self.frozen = False
        self.close_code: int | None = None
        self.given = 0
        """Messages that the client has read."""
        self._client = ClientProtocol(parse_uri(url), max_size=None)
        self._up: deque[bytes] = deque()
        self._down: deque[bytes] = deque()
        self._frames: deque[str] = deque()
        self._reading = True
        self._stuck = False
        self._cut = False
        """The client knows that the connection is gone."""
        self._closed = False
        """The server's end is closed: nothing comes behind what has left it."""
        self._noticed = False
        """The server's socket has been told."""
        self._changed = asyncio.Event()
        self.answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._socket = server.sockets.create_protocol(None, server.state, None)
        self._socket.connection_made(self)
        self._client.send_request(self._client.connect())
        self._flush()

    @property
    def flowing(self) -> bool:
        """Nothing is under way in either direction, and nothing holds up what comes."""
        return not (
            self._up or self._down or self._frames or self.frozen or self._cut or self._closed
        )

    # --- What happens to it -------------------------------------------------------------------

    def freeze(self, frozen: bool) -> None:
        """Whether the client is too busy to read."""
        if frozen is not self.frozen:
            self.frozen, self.given = frozen, 0
            self._take()

    def cut(self, arriving: int) -> None:
        """The client is cut off; so many of its writes are still on their way."""
        self._cut = True
        while len(self._up) > arriving:
            self._up.pop()
        self._down.clear()
        self._change()

    def notice(self) -> None:
        """The server learns that the client is gone, behind what still arrives."""
        if not self._noticed:
            self._noticed = self._closed = True
            self.server.call_soon(self._socket.connection_lost, None)
        self._change()

    def end(self) -> None:
        """The server's process is gone, and its kernel closes the connection."""
        self._closed = self._noticed = True
        self._change()

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
        self.notice()

    async def send(self, data: str | bytes) -> None:
        if self._cut or self._client.close_rcvd is not None:
            raise ConnectionClosedError(None, None)
        if isinstance(data, str):
            self._network.carried.append(data)
            self._client.send_text(data.encode())
        else:
            self._client.send_binary(data)
        self._flush()

    async def recv(self) -> str:
        while True:
            if self._cut:
                raise ConnectionClosedError(None, None)
            if self._frames and not self.frozen:
                self.given += 1
                return self._frames.popleft()
            if (close := self._client.close_rcvd) is not None:
                self.close_code = close.code
                self._network.codes.append(close.code)
                self._cut = True
                raise ConnectionClosedError(close, None)
            if self._closed and not self._down:
                self._cut = True
                continue
            await self._changed.wait()

    def _flush(self) -> None:
        """Send what the client's protocol has to say."""
        if (data := b"".join(self._client.data_to_send())) and not self._cut:
            self._up.append(data)
            self.server.call_soon(self._carry)

    def _take(self) -> None:
        """Read what the server wrote, unless the client is too busy."""
        if self.frozen or self._cut:
            return
        while self._down:
            self._client.receive_data(self._down.popleft())
            for event in self._client.events_received():
                if isinstance(event, Response) and not self.answered.done():
                    self.answered.set_result(event)
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    assert event.fin
                    self._frames.append(bytes(event.data).decode())
        self._flush()
        if self._stuck:
            self._stuck = False
            self.server.call_soon(self._socket.resume_writing)
        self._change()

    def _change(self) -> None:
        """Let the client look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # --- The server's end, a transport --------------------------------------------------------

    def _carry(self) -> None:
        """What the client has sent reaches the server's socket, if that reads."""
        while self._up and self._reading and not self._noticed:
            self._socket.data_received(self._up.popleft())

    def write(self, data: Any) -> None:
        if self._closed:
            return
        self._down.append(bytes(data))
        if len(self._down) > CAPACITY and not self._stuck:
            self._stuck = True
            self._socket.pause_writing()
        if not self._cut:
            asyncio.get_running_loop().call_soon(self._take)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self.notice()

    def abort(self) -> None:
        self._network.aborted += 1
        self._down.clear()
        self.close()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.server.call_soon(self._carry)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "nothing is copied into the transport that does not leave at once"


class Network:
    """Connects clients to the server that is there at the moment."""

    def __init__(self, clock: Clock, server: Callable[[], Server | None]) -> None:
        self._clock = clock
        self._server = server
        self.codes: list[int] = []
        """With which the server has closed links."""
        self.aborted = 0
        """Links that the server gave up: nobody read what it sent, or answered its pings."""
        self.carried: list[str] = []
        """Every text that a client has sent."""
        self.links: dict[str, Link] = {}
        """The latest of each client, by its name."""
        self.unreachable: dict[str, float] = {}
        """Until when a client's own network is down."""

    async def connect(self, url: str, timeout: float) -> Link:
        """In the place of `prepcli.client.handshake.open_connection`; the host of the URL is the
        client's name."""
        parts = urlsplit(url)
        name = parts.hostname or ""
        server = self._server()
        if server is None or self.unreachable.get(name, 0.0) > self._clock.monotonic():
            raise OSError("nobody answers")
        link = self.links[name] = Link(server, url, self)
        patience = asyncio.ensure_future(self._clock.sleep(timeout))
        try:
            await asyncio.wait((link.answered, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
            if not link.answered.done():
                link.cut(0)
                link.notice()
        if not link.answered.done():
            raise TimeoutError
        response = link.answered.result()
        if response.status_code != 101:
            raise InvalidStatus(response)
        return link

    def cut(self, name: str, *, arriving: int, unnoticed: float, outage: float) -> None:
        """Cut a client off: `arriving` messages of it still reach the server, which learns of the
        cut after `unnoticed` seconds; the client can connect again after `outage`."""
        self.unreachable[name] = self._clock.monotonic() + outage
        link = self.links.pop(name, None)
        if link is None:
            return
        link.cut(arriving)
        if not unnoticed:
            link.notice()
            return

        async def find_out() -> None:
            await self._clock.sleep(unnoticed)
            link.notice()

        link.server.spawn(find_out())

    def end(self, *, lost: bool) -> None:
        """The server's process is gone. `lost`: what it had sent does not arrive either."""
        for link in self.links.values():
            if lost:
                link.cut(0)
            link.end()
