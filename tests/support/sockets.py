"""A client of a real server's rooms: a socket, and what comes out of it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from prepserver.wire import codec
from prepserver.wire import protocol as wire
from tests.support.server import Reply

__all__ = ["Socket", "entered", "refusal"]

PATIENCE = 20.0
"""Real seconds."""

M = TypeVar("M")


class Socket:
    """One connection to a room."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[wire.ServerMessages] = []

    def send(self, message: wire.ClientMessage | str | bytes) -> None:
        if isinstance(message, wire.ClientMessage):
            message = codec.encode(message).decode()
        self.connection.send(message)

    def until(self, predicate: Callable[[wire.ServerMessages], bool]) -> wire.ServerMessages:
        """The next message that fits."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                data = self.connection.recv(timeout=max(0.0, end - time.monotonic()))
            except TimeoutError:
                seen = "\n".join(map(str, self.messages[-20:]))
                raise AssertionError(f"it did not come; the last messages were:\n{seen}") from None
            message = codec.decode_server(data)
            assert message is not None, f"an unknown tag: {data!r}"
            self.messages.append(message)
            if predicate(message):
                return message

    def next(self, kind: type[M]) -> M:
        """The next message of a type."""
        message = self.until(lambda m: isinstance(m, kind))
        assert isinstance(message, kind)
        return message

    def said(self, kind: wire.MessageKind) -> wire.Message:
        """The next whole message of a kind."""
        message = self.until(
            lambda m: isinstance(m, wire.InterviewMessage) and m.message.kind is kind
        )
        assert isinstance(message, wire.InterviewMessage)
        return message.message

    def question(self) -> str:
        """Wait until a question is open and the room is idle; its text."""
        snapshot = next((m for m in self.messages if isinstance(m, wire.Snapshot)), None)
        if snapshot is None:
            snapshot = self.next(wire.Snapshot)
        if snapshot.state is wire.Phase.IDLE and snapshot.messages:
            return snapshot.messages[-1].text
        text = self.said(wire.MessageKind.QUESTION).text
        self.until(lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE)
        return text

    def goes_on(self) -> None:
        """The room still takes an answer and asks the next question."""
        self.send(wire.UserMessage(text="I would measure first.", id="proof"))
        self.until(lambda m: isinstance(m, wire.Accepted) and m.id == "proof")
        assert self.said(wire.MessageKind.QUESTION).text.endswith("?")

    def end(self) -> int:
        """Read until the server ends the connection; the close code that it sent."""
        with pytest.raises(ConnectionClosed) as ended:
            self.until(lambda m: False)
        received = ended.value.rcvd
        assert received is not None, f"the connection broke without a code: {ended.value}"
        return received.code


@contextmanager
def entered(url: str) -> Iterator[Socket]:
    """A socket in a room; closed at the end."""
    with connect(url, open_timeout=PATIENCE, close_timeout=2, max_size=None) as connection:
        yield Socket(connection)


def refusal(url: str) -> Reply:
    """How the server answered a handshake that it did not accept."""
    try:
        with connect(url, open_timeout=PATIENCE, close_timeout=2):
            raise AssertionError("the server accepted the handshake")
    except InvalidStatus as refused:
        response = refused.response
        body: Any = json.loads(response.body) if response.body else None
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        return Reply(response.status_code, body, headers)
