"""The wire between the client's real Room and the server's real endpoint, without a socket.

A link loses nothing and reorders nothing, as TCP does, until it is cut; then each side learns of
it in its own time. It can be frozen, as when the client's machine is too busy to read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from litestar.types import ASGIApp
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from prepserver.clock import Clock

__all__ = ["CAPACITY", "Link", "Network"]

CAPACITY = 8
"""Messages that the network itself holds for a client that does not read."""


class Server(Protocol):
    """The life of a server that a link ends in."""

    endpoint: ASGIApp

    def spawn(self, coro: Any) -> asyncio.Task[Any]: ...


class Link:
    """One connection: to the client what websockets' ClientConnection is, to the server ASGI."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.frozen = False
        self.close_code: int | None = None
        self.given = 0
        """Messages that the client has read."""
        self._up: deque[str | bytes] = deque()
        self._down: deque[str | Close] = deque()
        self._greeted = False
        self._cut = False
        """The client knows that the connection is gone."""
        self._gone = False
        """The server knows."""
        self._ended = False
        """The server's process is gone: nothing comes behind what has left it."""
        self._refusal = 0
        self._changed = asyncio.Event()
        self.answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The status that the handshake is answered with."""

    @property
    def flowing(self) -> bool:
        """Nothing is under way in either direction, and nothing holds up what comes."""
        return not (self._up or self._down or self.frozen or self._cut or self._gone or self._ended)

    # --- What happens to it -------------------------------------------------------------------

    def change(self) -> None:
        """Let everybody look again who waits for this link."""
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self, arriving: int) -> None:
        """The client is cut off; so many of its messages are still on their way."""
        self._cut = True
        while len(self._up) > arriving:
            self._up.pop()
        self._down.clear()
        self.change()

    def end(self) -> None:
        """The server's process is gone, and its kernel closes the connection."""
        self._ended = True
        self.change()

    def notice(self) -> None:
        """The server learns that the client is gone, behind what still arrives."""
        self._gone = True
        self.change()

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
        if self._cut:
            raise ConnectionClosedError(None, None)
        self._up.append(data)
        self.change()

    async def recv(self) -> str:
        while True:
            if self._cut:
                raise ConnectionClosedError(None, None)
            if self._down and not self.frozen:
                data = self._down.popleft()
                self.change()
                if isinstance(data, Close):
                    self.close_code = data.code
                    self._cut = True
                    raise ConnectionClosedError(data, None)
                self.given += 1
                return data
            if self._ended and not self._down:
                self._cut = True
                continue
            await self._changed.wait()

    # --- The server's end ---------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        if not self._greeted:
            self._greeted = True
            return {"type": "websocket.connect"}
        while not self._up:
            if self._gone:
                return {"type": "websocket.disconnect", "code": 1006}
            await self._changed.wait()
        data = self._up.popleft()
        self.change()
        text, binary = (data, None) if isinstance(data, str) else (None, data)
        return {"type": "websocket.receive", "text": text, "bytes": binary}

    async def deliver(self, event: Any) -> None:
        """ASGI's `send`: waits, as a socket does, when the client does not read."""
        match event["type"]:
            case "websocket.accept":
                self.answered.set_result(101)
            case "websocket.http.response.start":
                self._refusal = int(event["status"])
            case "websocket.http.response.body":
                self.answered.set_result(self._refusal)
                self.notice()
            case "websocket.close":
                await self._put(Close(event["code"], event["reason"]))
                self.notice()
            case "websocket.send":
                data = event["text"] if event.get("text") is not None else event["bytes"].decode()
                await self._put(data)
            case other:
                raise AssertionError(f"the server sent {other}")

    async def _put(self, data: str | Close) -> None:
        while len(self._down) >= CAPACITY and not self._gone:
            await self._changed.wait()
        if self._gone:
            raise OSError("the peer is gone")
        if not self._cut:
            self._down.append(data)
            self.change()


class Network:
    """Connects clients to the server that is there at the moment."""

    def __init__(self, clock: Clock, server: Callable[[], Server | None]) -> None:
        self._clock = clock
        self._server = server
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
        link = Link(server)
        self.links[name] = link
        scope: Any = {
            "type": "websocket",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [],
        }
        receive: Any = link.receive
        server.spawn(server.endpoint(scope, receive, link.deliver))
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
        if (status := link.answered.result()) != 101:
            raise InvalidStatus(Response(status, "", Headers()))
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
