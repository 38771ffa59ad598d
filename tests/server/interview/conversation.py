"""Helpers for conversations with an interview, shared by several tests."""

from collections.abc import Sequence
from typing import Any

from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import Phase
from tests.support.rooms import Client, Rooms

LOUD = (b"\x00\x40" + b"\x00\xc0") * 8_000
"""One second of PCM16 audio that is not silent."""

SILENT = bytes(32_000)
"""One second of silent PCM16 audio."""


def answer(text: str, id: str = "") -> client_messages.UserMessage:
    return client_messages.UserMessage(id=id, text=text)


async def open_room(rooms: Rooms, **spec: Any) -> Client:
    """Create an interview and return a connected client once the first question is open."""
    view = await rooms.create(**spec)
    client = await rooms.join(view.id)
    await wait_until_idle(client)
    return client


async def start_reply(rooms: Rooms, **spec: Any) -> Client:
    """Create an interview, answer its first question, and return the client once the first words
    of the next question have arrived. Each word takes time.

    The interview has a question to spare for a follow-up on the opening, which the model writes.
    """
    client = await open_room(rooms, **{"questions": 7, **spec})
    await client.send(answer("I wrote a service in Python."))
    while not latest_deltas(client):
        await rooms.advance(1.0)
    return client


def latest_deltas(client: Client) -> list[wire.Delta]:
    """Return the deltas since the last complete message of the transcript."""
    deltas: list[wire.Delta] = []
    for message in client.messages:
        if isinstance(message, wire.InterviewMessage):
            deltas = []
        elif isinstance(message, wire.Delta):
            deltas.append(message)
    return deltas


async def wait_until_idle(client: Client) -> None:
    await client.until(
        lambda m: (
            (isinstance(m, wire.Snapshot) and m.state is Phase.IDLE and len(m.messages) > 0)
            or (isinstance(m, wire.StateChanged) and m.state is Phase.IDLE)
        )
    )


async def request_snapshot(client: Client) -> wire.Snapshot:
    await client.send(client_messages.GetAllMessages())
    return await client.next(wire.Snapshot)


def message_kinds(messages: Sequence[wire.Message]) -> list[str]:
    return [message.kind.value for message in messages]
