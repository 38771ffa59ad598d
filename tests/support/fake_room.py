"""Scripted WebSocket server on loopback in place of a room.

async with FakeRoom() as fake:
    room = Room(fake.address)
    peer = await fake.next_peer()   # the server's end of the next connection
    await peer.send(Hello(…))
    message = await peer.receive()
    await peer.drop()
"""

import asyncio
import http
from types import TracebackType
from typing import Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from prepserver.wire.client_messages import ClientMessages
from prepserver.wire.codec import decode_client, encode, unpack_frame
from prepserver.wire.protocol import (
    Accepted,
    Hello,
    ServerMessage,
    Snapshot,
)

TIMEOUT_SECONDS = 10.0
"""Seconds of real time after which a wait fails instead of hanging."""


class Peer:
    """Server's end of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.left = asyncio.Event()

    async def send(self, *messages: ServerMessage) -> None:
        for message in messages:
            await self.connection.send(encode(message).decode())

    async def send_raw(self, data: str | bytes) -> None:
        await self.connection.send(data)

    async def greet(self, snapshot: Snapshot | None = None) -> None:
        """Send the first messages of a room: `hello` and a snapshot."""
        hello = Hello(protocol=1, server="fake", connection="c", party="interview", room="r")
        await self.send(hello, snapshot or Snapshot())

    async def receive(self) -> ClientMessages | tuple[int, bytes]:
        """Return the client's next message; an audio frame is returned as its number and its
        samples."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            data = await self.connection.recv()
        return unpack_frame(data) if isinstance(data, bytes) else decode_client(data)

    async def accept(self) -> ClientMessages:
        """Return the client's next message after acknowledging it."""
        message = await self.receive()
        assert not isinstance(message, tuple)
        await self.send(Accepted(id=getattr(message, "id", "")))
        return message

    async def close(self, code: int) -> None:
        await self.connection.close(code)
        self.left.set()

    async def drop(self) -> None:
        """Abort the connection without a close frame, as when a cable is cut."""
        self.connection.transport.abort()
        await self.connection.wait_closed()
        self.left.set()


class FakeRoom:
    """WebSocket server on loopback that `async with` starts and stops."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        """Statuses of the next handshake responses; once the list is empty, the status is 101."""
        self.body = "refused\n"
        """Body of handshake responses whose status is not 101."""
        self.stalled = False
        """True to leave handshakes without a response until the server stops."""
        self.paths: list[str] = []
        """Path and query of each handshake."""
        self.renewals: list[bool] = []
        """Argument of each call to `address`: True if the client requires a new token."""
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: Server | None = None
        self._released = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._on_connect, "127.0.0.1", 0, process_request=self._on_handshake, ping_interval=None
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def address(self, renew: bool) -> str:
        """Return the room's URL, with the number of calls so far in the token."""
        assert self._server is not None
        self.renewals.append(renew)
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/parties/interview/r?token=t{len(self.renewals)}"

    async def next_peer(self) -> Peer:
        """Wait for the next connection and return the server's end."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._peers.get()

    async def _on_handshake(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        self.paths.append(request.path)
        if self.stalled:
            await self._released.wait()
        status = self.statuses.pop(0) if self.statuses else 101
        if status == 101:
            return None
        return connection.respond(http.HTTPStatus(status), self.body)

    async def _on_connect(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self._peers.put_nowait(peer)
        try:
            await connection.wait_closed()
        except ConnectionClosed:
            return
