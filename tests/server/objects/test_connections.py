"""Connections of an object's room: a bounded outbox, tags, and a small attached state."""

import asyncio
import sys
from pathlib import Path
from typing import cast

import pytest

from prepserver.errors import BadRequest, PrepServerError
from prepserver.objects.connection import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    MAX_STATE_BYTES,
    Close,
    Connection,
)
from prepserver.objects.object import DurableObject
from prepserver.wire.protocol import CLOSE_SLOW, Caption
from tests.support.fake_socket import FakeSocket
from tests.support.loop import asynchronous
from tests.support.objects import call_to, join, start_registry


class Speaker(DurableObject):
    """Object that welcomes each connection and broadcasts to its room on request."""

    def broadcast(self, text: str, exclude: tuple[str, ...] = (), tag: str | None = None) -> None:
        self.context.broadcast(Caption(text=text), exclude=exclude, tag=tag)

    def tagged(self, tag: str) -> list[str]:
        return sorted(connection.id for connection in self.context.connections(tag))

    def close_all(self, code: int) -> None:
        self.context.broadcast(Caption(text="goodbye"))
        for connection in self.context.connections():
            self.context.close(connection, code, "")

    def on_connect(self, connection: Connection) -> None:
        self.context.send(connection, Caption(text="welcome"))


@asynchronous
async def test_a_broadcast_reaches_all_but_the_excluded(tmp_path: Path) -> None:
    """A broadcast reaches every connection in the room except those whose ids are in `exclude`."""
    async with start_registry(tmp_path, Speaker) as registry:
        one, two = (join(registry, Speaker, "a", Connection(id)) for id in ("one", "two"))
        await registry.call(call_to(Speaker, "a", Speaker.broadcast, "not for one", ("one",)))
        await registry.call(call_to(Speaker, "a", Speaker.broadcast, "for all"))
        await one.until(lambda m: m == Caption(text="for all"))
        await two.until(lambda m: m == Caption(text="for all"))
        assert Caption(text="not for one") not in one.messages
        assert Caption(text="not for one") in two.messages


@asynchronous
async def test_a_tag_selects_connections(tmp_path: Path) -> None:
    """A broadcast to a tag reaches only the connections with that tag."""
    async with start_registry(tmp_path, Speaker) as registry:
        watching = join(registry, Speaker, "a", Connection("w", tags=("watching", "x")))
        talking = join(registry, Speaker, "a", Connection("t", tags=("talking",)))
        await registry.call(
            call_to(Speaker, "a", Speaker.broadcast, "for watchers", (), "watching")
        )
        await registry.call(call_to(Speaker, "a", Speaker.broadcast, "end"))
        await watching.until(lambda m: m == Caption(text="for watchers"))
        await talking.until(lambda m: m == Caption(text="end"))
        assert Caption(text="for watchers") not in talking.messages
        assert await registry.call(call_to(Speaker, "a", Speaker.tagged, "x")) == ["w"]


def test_more_than_ten_tags_are_rejected() -> None:
    """A connection accepts ten tags and rejects eleven."""
    Connection("c", tags=tuple(map(str, range(10))))
    with pytest.raises(BadRequest):
        Connection("c", tags=tuple(map(str, range(11))))


def test_the_state_is_plain_data_of_at_most_16_kib() -> None:
    """The state of a connection is a copy of the assigned value; a value whose JSON is longer than
    16 KiB is rejected."""
    connection = Connection("c")
    assert connection.state is None
    value = {"user": "u", "list": [1, 2]}
    connection.state = value
    value["user"] = "changed outside"
    assert connection.state == {"user": "u", "list": [1, 2]}
    connection.state = "x" * (MAX_STATE_BYTES - 2)
    with pytest.raises(BadRequest):
        connection.state = "x" * (MAX_STATE_BYTES - 1)
    assert len(connection.state) == MAX_STATE_BYTES - 2


@pytest.mark.parametrize(
    "message",
    [b"x" * (MAX_QUEUED_BYTES // 10), b"x"],
    ids=["long", "short"],
)
@asynchronous
async def test_a_slow_client_is_closed_with_4008(message: bytes) -> None:
    """A connection whose outbox exceeds its limit of bytes or messages is closed with code 4008,
    and the outbox is cleared."""
    connection = Connection("c")
    sink = FakeSocket(connection, capacity=1)
    connection.push(b"fills the socket")
    pushed = 0
    while connection.closing is None:
        connection.push(message)
        pushed += 1
        assert pushed <= MAX_QUEUED_MESSAGES + 1
    # The message that crosses the limit is still queued; the next one is not.
    assert pushed == (12 if len(message) > 1 else MAX_QUEUED_MESSAGES + 1)
    connection.push(b"after the end")
    assert await sink.next() == b"fills the socket"
    assert await sink.next() == connection.closing
    assert connection.closing.code == CLOSE_SLOW
    assert "resume" in connection.closing.reason


def test_a_message_to_many_slow_clients_is_stored_once() -> None:
    """Each outbox holds a reference to a broadcast message, not a copy."""
    message = b"x" * 1_000
    before = sys.getrefcount(message)
    connections = [Connection(str(number)) for number in range(100)]
    for connection in connections:
        connection.push(message)
    assert sys.getrefcount(message) == before + 100


@asynchronous
async def test_a_message_above_the_limit_reaches_a_client_that_keeps_up() -> None:
    """A connection with an empty outbox accepts a message of any size, such as a long snapshot."""
    connection = Connection("c")
    sink = FakeSocket(connection, capacity=1)
    for _ in range(3):
        connection.push(b"x" * (MAX_QUEUED_BYTES + 1))
        assert len(cast(bytes, await sink.next())) == MAX_QUEUED_BYTES + 1
    assert connection.closing is None


@asynchronous
async def test_messages_stay_in_order_around_a_full_socket() -> None:
    """Queued messages are sent before later messages, however often the socket is full."""
    connection = Connection("c")
    connection.push(b"0")
    sink = FakeSocket(connection, capacity=2)
    for number in range(1, 10):
        connection.push(b"%d" % number)
        if number % 3 == 0:
            assert await sink.next() == b"%d" % (number // 3 - 1)
    assert [await sink.next() for _ in range(7)] == [b"%d" % n for n in range(3, 10)]


@asynchronous
async def test_a_slow_client_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """If a client never reads, its connection is closed once the outbox overflows, and another
    client in the room receives every message."""
    async with start_registry(tmp_path, Speaker) as registry:
        slow = Connection("slow")
        registry.connect("Speaker", "a", slow)
        quick = join(registry, Speaker, "a", Connection("quick"))
        await quick.next(Caption)
        for number in range(20):
            await registry.call(
                call_to(Speaker, "a", Speaker.broadcast, f"{number} {'x' * 100_000}")
            )
            await asyncio.sleep(0)  # lets the quick client read
        await quick.until(lambda m: isinstance(m, Caption) and m.text.startswith("19 "))
        assert slow.closing is not None
        assert slow.closing.code == CLOSE_SLOW
        assert len(quick.messages) == 21


@asynchronous
async def test_a_close_follows_queued_messages_and_only_the_first_counts() -> None:
    """A close is sent after the queued messages, and later messages and closes are dropped."""
    connection = Connection("c")
    connection.push(b"one")
    connection.close(1000, "done")
    connection.close(1011, "too late")
    connection.push(b"two")
    sink = FakeSocket(connection)
    assert await sink.next() == b"one"
    assert await sink.next() == Close(1000, "done")
    connection.drain()
    connection.close(1000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sink.next(), 0)


def test_a_long_reason_is_cut_between_characters() -> None:
    """A close reason of more than 123 bytes is cut at a character boundary."""
    connection = Connection("c")
    connection.close(1011, "ü" * 100)
    assert connection.closing == Close(1011, "ü" * 61)


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_reserved_close_codes_are_rejected(code: int) -> None:
    """Closing a connection with code 1005, 1006 or 1015 raises ValueError."""
    with pytest.raises(ValueError, match="close code"):
        Connection("c").close(code)


@asynchronous
async def test_a_handler_that_closes_with_a_reserved_code_fails(
    tmp_path: Path,
) -> None:
    """A handler that closes connections with a reserved code fails: its messages are not sent, and
    the connections stay open."""
    async with start_registry(tmp_path, Speaker) as registry:
        client = join(registry, Speaker, "a", Connection("c"))
        await client.next(Caption)
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Speaker, "a", Speaker.close_all, 1006))
        await registry.call(call_to(Speaker, "a", Speaker.broadcast, "still here"))
        await client.until(lambda m: m == Caption(text="still here"))
        assert Caption(text="goodbye") not in client.messages


@asynchronous
async def test_a_detached_connection_drops_messages() -> None:
    """Detaching a connection clears its outbox, and later messages and closes are dropped."""
    connection = Connection("c")
    sink = FakeSocket(connection, capacity=1)
    connection.push(b"one")
    connection.push(b"two")
    connection.detach()
    connection.push(b"three")
    connection.drain()
    connection.close(1011)
    assert await sink.next() == b"one"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sink.next(), 0)
