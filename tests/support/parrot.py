"""Sockets of a room that repeats what it hears, in virtual time and without a network."""

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
from tests.support.clock import ManualClock
from tests.support.objects import alive, call_to
from tests.support.wire import Wire

__all__ = ["Edge", "Parrot", "caption", "edge", "masked", "opcodes"]


class Parrot(DurableObject):
    """Notes what it hears and says it again."""

    migrations = ("CREATE TABLE heard (text)",)

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        text = message if isinstance(message, str) else f"{len(message)} bytes"
        self.context.storage.sql("INSERT INTO heard VALUES (?)", text)
        self.context.send(connection, wire.Caption(text=text))

    def heard(self) -> list[str]:
        return [str(row[0]) for row in self.context.storage.sql("SELECT text FROM heard")]

    def say(self, text: str) -> None:
        self.context.broadcast(wire.Caption(text=text))

    def clients(self) -> int:
        return len(self.context.connections())


class Edge:
    """A registry with one parrot, and sockets that lead to it."""

    def __init__(self, registry: Registry, clock: ManualClock) -> None:
        self.registry = registry
        self.clock = clock
        self.sockets = Sockets(self.admit, clock)
        self.door = asyncio.Event()
        self.door.set()
        self.connections: list[Connection] = []

    async def admit(self, target: str) -> tuple[Connection, Instance]:
        await self.door.wait()
        if "forbidden" in target:
            raise Forbidden("Not yours.")
        connection = Connection(f"c{len(self.connections)}")
        self.connections.append(connection)
        return connection, self.registry.connect("Parrot", "a", connection)

    async def wire(self) -> Wire:
        """A client in the room."""
        one = Wire(self.sockets)
        await one.enter()
        await self.registry.wait_for_handlers()
        return one

    async def heard(self) -> list[str]:
        heard: list[str] = await self.registry.call(call_to(Parrot, "a", Parrot.heard))
        return heard

    async def clients(self) -> int:
        count: int = await self.registry.call(call_to(Parrot, "a", Parrot.clients))
        return count


@asynccontextmanager
async def edge(root: Path) -> AsyncIterator[Edge]:
    clock = ManualClock()
    async with alive(root, Parrot, clock=clock) as registry:
        one = Edge(registry, clock)
        watching = asyncio.create_task(one.sockets.watch())
        try:
            yield one
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


def opcodes(frames: list[Frame]) -> list[Opcode]:
    return [frame.opcode for frame in frames]


def caption(text: str) -> str:
    return codec.encode(wire.Caption(text=text)).decode()


def masked(text: bytes) -> bytes:
    """A text frame as a client sends it, with a mask of zeros."""
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text
