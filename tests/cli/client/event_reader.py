"""Helpers for tests of a room: a reader for the room's events, and a sleep without a delay."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prepcli.client.recording import FRAME_BYTES
from prepcli.client.room import Room
from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent
from tests.support.fake_room import TIMEOUT_SECONDS, FakeRoom

FRAME = b"\x00" * FRAME_BYTES


class FakeSleep:
    """Fake of `asyncio.sleep` that returns immediately and records the delays."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.delays.append(seconds)
        await asyncio.sleep(0)


class EventReader:
    """Reader that keeps the events of a room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.events: list[RoomEvent] = []

    async def read_until(self, predicate: Callable[[RoomEvent], bool]) -> RoomEvent:
        """Read events up to the next one that satisfies the predicate, and return that event."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for event in self._room:
                self.events.append(event)
                if predicate(event):
                    return event
        raise AssertionError("the room was left")

    async def read_status(self, status: ConnectionStatus) -> RoomEvent:
        return await self.read_until(
            lambda event: isinstance(event, ConnectionChanged) and event.status is status
        )

    async def read_next(self, kind: type[Any]) -> Any:
        return await self.read_until(lambda event: isinstance(event, kind))


@asynccontextmanager
async def enter_room(fake: FakeRoom, **options: Any) -> AsyncIterator[tuple[Room, EventReader]]:
    """Enter the fake room with a client whose delays take no time."""
    settings: dict[str, Any] = {"sleep": FakeSleep(), "rng": random.Random(1), **options}
    async with Room(fake.address, **settings) as room:
        yield room, EventReader(room)


def run_with_room(test: Callable[[FakeRoom], Awaitable[None]]) -> None:
    """Run a test with a new fake room."""

    async def run() -> None:
        async with FakeRoom() as fake:
            await test(fake)

    asyncio.run(run())
