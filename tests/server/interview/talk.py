"""What tests of an interview have in common."""

from collections.abc import Sequence
from typing import Any

from prepserver.wire import protocol as wire
from prepserver.wire.protocol import Phase
from tests.support.rooms import Client, Rooms

LOUD = (b"\x00\x40" + b"\x00\xc0") * 8_000
"""One second that is not silent."""

SILENT = bytes(32_000)


def answer(text: str, id: str = "") -> wire.UserMessage:
    return wire.UserMessage(id=id, text=text)


async def open_room(rooms: Rooms, **spec: Any) -> Client:
    """A client in a new interview whose first question has been asked."""
    view = await rooms.create(**spec)
    client = await rooms.join(view.id)
    await ready(client)
    return client


async def ready(client: Client) -> None:
    await client.until(
        lambda m: (
            (isinstance(m, wire.Snapshot) and m.state is Phase.IDLE and len(m.messages) > 0)
            or (isinstance(m, wire.StateChanged) and m.state is Phase.IDLE)
        )
    )


async def snapshot(client: Client) -> wire.Snapshot:
    await client.send(wire.GetAllMessages())
    return await client.next(wire.Snapshot)


def kinds(messages: Sequence[wire.Message]) -> list[str]:
    return [message.kind.value for message in messages]
