"""Room that echoes its messages, behind the server's sockets, in virtual time and without a
network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.frames import Frame, Opcode

from prepserver.errors import Forbidden
from prepserver.http.sockets import Sockets
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.fake_transport import FakeTransport
from tests.support.objects import call_to, start_registry

__all__ = ["EchoRoom", "EchoServer", "caption", "echo_server", "masked_text_frame", "opcodes"]


class EchoRoom(DurableObject):
    """Object that stores each message and sends it back as a caption."""

    migrations = ("CREATE TABLE received (text)",)

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        text = message if isinstance(message, str) else f"{len(message)} bytes"
        self.context.storage.sql("INSERT INTO received VALUES (?)", text)
        self.context.send(connection, wire.Caption(text=text))

    def received(self) -> list[str]:
        return [str(row[0]) for row in self.context.storage.sql("SELECT text FROM received")]

    def broadcast(self, text: str) -> None:
        self.context.broadcast(wire.Caption(text=text))

    def client_count(self) -> int:
        return len(self.context.connections())


class EchoServer:
    """Registry with one echo room, and sockets that connect clients to the room."""

    def __init__(self, registry: Registry, clock: ManualClock) -> None:
        self.registry = registry
        self.clock = clock
        self.sockets = Sockets(self.admit, clock)
        self.admitting = asyncio.Event()
        """Event that handshakes wait for; initially set."""
        self.admitting.set()
        self.connections: list[Connection] = []

    async def admit(self, target: str) -> tuple[Connection, Instance]:
        await self.admitting.wait()
        if "forbidden" in target:
            raise Forbidden("Not yours.", code=ErrorCode.NOT_YOUR_ROOM)
        connection = Connection(f"c{len(self.connections)}")
        self.connections.append(connection)
        return connection, self.registry.connect("EchoRoom", "a", connection)

    async def connect_client(self) -> FakeTransport:
        client = FakeTransport(self.sockets)
        await client.perform_handshake()
        await self.registry.wait_for_handlers()
        return client

    async def received(self) -> list[str]:
        received: list[str] = await self.registry.call(call_to(EchoRoom, "a", EchoRoom.received))
        return received

    async def client_count(self) -> int:
        count: int = await self.registry.call(call_to(EchoRoom, "a", EchoRoom.client_count))
        return count


@asynccontextmanager
async def echo_server(root: Path) -> AsyncIterator[EchoServer]:
    clock = ManualClock()
    async with start_registry(root, EchoRoom, clock=clock) as registry:
        server = EchoServer(registry, clock)
        watching = asyncio.create_task(server.sockets.run_keepalive())
        try:
            yield server
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


def opcodes(frames: list[Frame]) -> list[Opcode]:
    return [frame.opcode for frame in frames]


def caption(text: str) -> str:
    return codec.encode(wire.Caption(text=text)).decode()


def masked_text_frame(text: bytes) -> bytes:
    """Encode a short text frame as a client does, with a mask of zeros."""
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text
