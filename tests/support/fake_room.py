"""A room on loopback that behaves as a test wants: a real WebSocket server, no interview.

async with FakeRoom() as fake:
    room = Room(fake.address)
    peer = await fake.peer()        # the server's end of the next connection
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

from prepserver.wire.codec import decode_client, encode, unpack_frame
from prepserver.wire.protocol import (
    Accepted,
    ClientMessages,
    Hello,
    ServerMessage,
    Snapshot,
)

PATIENCE = 10.0
"""Seconds a test waits for something that must come; it fails then instead of hanging."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.left = asyncio.Event()

    async def send(self, *messages: ServerMessage) -> None:
        for message in messages:
            await self.connection.send(encode(message).decode())

    async def send_raw(self, data: str | bytes) -> None:
        await self.connection.send(data)

    async def greet(self, snapshot: Snapshot | None = None) -> None:
        """What a room sends first."""
        hello = Hello(protocol=1, server="fake", connection="c", party="interview", room="r")
        await self.send(hello, snapshot or Snapshot())

    async def receive(self) -> ClientMessages | tuple[int, bytes]:
        """The next message of the client; a binary one as its number and its samples."""
        async with asyncio.timeout(PATIENCE):
            data = await self.connection.recv()
        return unpack_frame(data) if isinstance(data, bytes) else decode_client(data)

    async def accept(self) -> ClientMessages:
        """The next message, which has an id, after having acknowledged it."""
        message = await self.receive()
        assert not isinstance(message, tuple)
        await self.send(Accepted(id=getattr(message, "id", "")))
        return message

    async def close(self, code: int) -> None:
        await self.connection.close(code)
        self.left.set()

    async def drop(self) -> None:
        """Lose the connection without a word, as when a cable is cut."""
        self.connection.transport.abort()
        await self.connection.wait_closed()
        self.left.set()


class FakeRoom:
    """Listens on loopback. `statuses` are the answers to the next handshakes: 101 by default."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.body = "refused\n"
        """Of the answers that are none of 101."""
        self.stalled = False
        """Whether handshakes are left without an answer."""
        self.paths: list[str] = []
        """Of every handshake, the query included."""
        self.renewals: list[bool] = []
        """What the client asked of `address` at each attempt."""
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: Server | None = None
        self._released = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._connected, "127.0.0.1", 0, process_request=self._handshake, ping_interval=None
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
        """Of the room; the token counts the attempts."""
        assert self._server is not None
        self.renewals.append(renew)
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/parties/interview/r?token=t{len(self.renewals)}"

    async def peer(self) -> Peer:
        """The server's end of the next connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._peers.get()

    async def _handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if self.stalled:
            await self._released.wait()
        status = self.statuses.pop(0) if self.statuses else 101
        if status == 101:
            return None
        return connection.respond(http.HTTPStatus(status), self.body)

    async def _connected(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self._peers.put_nowait(peer)
        try:
            await connection.wait_closed()
        except ConnectionClosed:
            return
