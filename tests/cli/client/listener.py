"""Someone in a room, for tests: reads its events, and waits no time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prepcli.client.recording import FRAME_BYTES
from prepcli.client.room import Room
from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent
from tests.support.fake_room import PATIENCE, FakeRoom

FRAME = b"\x00" * FRAME_BYTES


class Sleeper:
    """Waits no time at all, and remembers how long it should have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Listener:
    """Reads a room's events beside the test."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.events: list[RoomEvent] = []

    async def until(self, wanted: Callable[[RoomEvent], bool]) -> RoomEvent:
        """The next event that is wanted."""
        async with asyncio.timeout(PATIENCE):
            async for event in self._room:
                self.events.append(event)
                if wanted(event):
                    return event
        raise AssertionError("the room was left")

    async def until_status(self, status: ConnectionStatus) -> RoomEvent:
        return await self.until(
            lambda event: isinstance(event, ConnectionChanged) and event.status is status
        )

    async def until_a(self, kind: type[Any]) -> Any:
        return await self.until(lambda event: isinstance(event, kind))


@asynccontextmanager
async def entered(fake: FakeRoom, **options: Any) -> AsyncIterator[tuple[Room, Listener]]:
    settings: dict[str, Any] = {"sleep": Sleeper(), "rng": random.Random(1), **options}
    async with Room(fake.address, **settings) as room:
        yield room, Listener(room)


def play(test: Callable[[FakeRoom], Awaitable[None]]) -> None:
    """Run a test against a fake room of its own."""

    async def run() -> None:
        async with FakeRoom() as fake:
            await test(fake)

    asyncio.run(run())
