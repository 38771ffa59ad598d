"""WebSocket client for the rooms of a real server."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from tests.support.server import Reply

__all__ = ["RoomClient", "open_room", "rejected_handshake"]

TIMEOUT = 20.0
"""Seconds of real time after which a wait for the server fails."""

M = TypeVar("M")


class RoomClient:
    """Client with one connection to a room, which records the messages it receives."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[wire.ServerMessages] = []

    def send(self, message: client_messages.ClientMessage | str | bytes) -> None:
        if isinstance(message, client_messages.ClientMessage):
            message = codec.encode(message).decode()
        self.connection.send(message)

    def wait_for(self, predicate: Callable[[wire.ServerMessages], bool]) -> wire.ServerMessages:
        """Receive messages until one matches `predicate`, and return the matching message."""
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                data = self.connection.recv(timeout=max(0.0, end - time.monotonic()))
            except TimeoutError:
                seen = "\n".join(map(str, self.messages[-20:]))
                raise AssertionError(f"no message matched; the last ones were:\n{seen}") from None
            message = codec.decode_server(data)
            assert message is not None, f"unknown message type: {data!r}"
            self.messages.append(message)
            if predicate(message):
                return message

    def next(self, kind: type[M]) -> M:
        """Return the next message of the type `kind`."""
        message = self.wait_for(lambda m: isinstance(m, kind))
        assert isinstance(message, kind)
        return message

    def next_of_kind(self, kind: wire.MessageKind) -> wire.Message:
        """Return the next complete transcript message of the given kind."""
        message = self.wait_for(
            lambda m: isinstance(m, wire.InterviewMessage) and m.message.kind is kind
        )
        assert isinstance(message, wire.InterviewMessage)
        return message.message

    def wait_for_question(self) -> str:
        """Wait until a question is open and the interview is idle; return the question's text."""
        snapshot = next((m for m in self.messages if isinstance(m, wire.Snapshot)), None)
        if snapshot is None:
            snapshot = self.next(wire.Snapshot)
        if snapshot.state is wire.Phase.IDLE and snapshot.messages:
            return snapshot.messages[-1].text
        text = self.next_of_kind(wire.MessageKind.QUESTION).text
        self.wait_for(lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE)
        return text

    def check_interview_continues(self) -> None:
        """Check that the interview accepts an answer and asks the next question."""
        self.send(client_messages.UserMessage(text="I would measure first.", id="proof"))
        self.wait_for(lambda m: isinstance(m, wire.Accepted) and m.id == "proof")
        assert self.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")

    def wait_for_close(self) -> int:
        """Read until the server closes the connection; return the close code."""
        with pytest.raises(ConnectionClosed) as closed:
            self.wait_for(lambda m: False)
        received = closed.value.rcvd
        assert received is not None, f"the connection ended without a close code: {closed.value}"
        return received.code


@contextmanager
def open_room(url: str) -> Iterator[RoomClient]:
    """Yield a client that is connected to the room at the address `url`."""
    # Without a bound on the queue, pings are answered while the test reads another room.
    with connect(
        url, open_timeout=TIMEOUT, close_timeout=2, max_size=None, max_queue=None
    ) as connection:
        yield RoomClient(connection)


def rejected_handshake(url: str) -> Reply:
    """Return the response to a handshake that the server refuses."""
    try:
        with connect(url, open_timeout=TIMEOUT, close_timeout=2):
            raise AssertionError("the server accepted the handshake")
    except InvalidStatus as error:
        response = error.response
        body: Any = json.loads(response.body) if response.body else None
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        return Reply(response.status_code, body, headers)
