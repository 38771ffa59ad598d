"""A client's socket as an object sees it: bounded, tagged, with a small attachment."""

import asyncio
import sys
from pathlib import Path
from typing import cast

import pytest

from prepserver.errors import BadRequest, PrepServerError
from prepserver.objects.connection import (
    MAX_ATTACHMENT,
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    Close,
    Connection,
)
from prepserver.objects.object import DurableObject
from prepserver.wire.protocol import CLOSE_SLOW, Caption
from tests.support.fake_socket import FakeSocket
from tests.support.loop import asynchronous
from tests.support.objects import alive, call_to, join


class Speaker(DurableObject):
    """Says things to its room."""

    def say(self, text: str, exclude: tuple[str, ...] = (), tag: str | None = None) -> None:
        self.context.broadcast(Caption(text=text), exclude=exclude, tag=tag)

    def tagged(self, tag: str) -> list[str]:
        return sorted(connection.id for connection in self.context.connections(tag))

    def hang_up(self, code: int) -> None:
        self.context.broadcast(Caption(text="goodbye"))
        for connection in self.context.connections():
            self.context.close(connection, code, "")

    def on_connect(self, connection: Connection) -> None:
        self.context.send(connection, Caption(text="welcome"))


@asynchronous
async def test_a_broadcast_reaches_everybody_but_who_is_excluded(tmp_path: Path) -> None:
    """One message, all connections, minus those named."""
    async with alive(tmp_path, Speaker) as registry:
        one, two = (join(registry, Speaker, "a", Connection(id)) for id in ("one", "two"))
        await registry.call(call_to(Speaker, "a", Speaker.say, "not for one", ("one",)))
        await registry.call(call_to(Speaker, "a", Speaker.say, "for all"))
        await one.until(lambda m: m == Caption(text="for all"))
        await two.until(lambda m: m == Caption(text="for all"))
        assert Caption(text="not for one") not in one.messages
        assert Caption(text="not for one") in two.messages


@asynchronous
async def test_tags_choose_connections(tmp_path: Path) -> None:
    """A broadcast to a tag reaches the connections that carry it."""
    async with alive(tmp_path, Speaker) as registry:
        watching = join(registry, Speaker, "a", Connection("w", tags=("watching", "x")))
        talking = join(registry, Speaker, "a", Connection("t", tags=("talking",)))
        await registry.call(call_to(Speaker, "a", Speaker.say, "for watchers", (), "watching"))
        await registry.call(call_to(Speaker, "a", Speaker.say, "end"))
        await watching.until(lambda m: m == Caption(text="for watchers"))
        await talking.until(lambda m: m == Caption(text="end"))
        assert Caption(text="for watchers") not in talking.messages
        assert await registry.call(call_to(Speaker, "a", Speaker.tagged, "x")) == ["w"]


def test_more_than_ten_tags_are_refused() -> None:
    """Ten are allowed, eleven are not."""
    Connection("c", tags=tuple(map(str, range(10))))
    with pytest.raises(BadRequest):
        Connection("c", tags=tuple(map(str, range(11))))


def test_an_attachment_is_plain_data_of_at_most_16_kib() -> None:
    """What an object keeps with a connection is encoded, copied and bounded."""
    connection = Connection("c")
    assert connection.state is None
    kept = {"user": "u", "list": [1, 2]}
    connection.state = kept
    kept["user"] = "changed outside"
    assert connection.state == {"user": "u", "list": [1, 2]}
    connection.state = "x" * (MAX_ATTACHMENT - 2)
    with pytest.raises(BadRequest):
        connection.state = "x" * (MAX_ATTACHMENT - 1)
    assert len(connection.state) == MAX_ATTACHMENT - 2


@pytest.mark.parametrize(
    "message",
    [b"x" * (MAX_QUEUED_BYTES // 10), b"x"],
    ids=["long", "short"],
)
@asynchronous
async def test_a_slow_client_is_closed_with_a_code_that_tells_it_to_resume(message: bytes) -> None:
    """Its outbox is bounded in bytes and in messages, and emptied at the bound."""
    connection = Connection("c")
    sink = FakeSocket(connection, capacity=1)
    connection.push(b"fills the socket")
    pushed = 0
    while connection.closing is None:
        connection.push(message)
        pushed += 1
        assert pushed <= MAX_QUEUED_MESSAGES + 1
    # The one that crosses the bound is taken, the next one is too much.
    assert pushed == (12 if len(message) > 1 else MAX_QUEUED_MESSAGES + 1)
    connection.push(b"after the end")
    assert await sink.next() == b"fills the socket"
    assert await sink.next() == connection.closing
    assert connection.closing.code == CLOSE_SLOW
    assert "resume" in connection.closing.reason


def test_what_many_slow_clients_wait_for_is_held_once() -> None:
    """Each holds a reference to the message, not a copy of it."""
    message = b"x" * 1_000
    before = sys.getrefcount(message)
    waiting = [Connection(str(number)) for number in range(100)]
    for connection in waiting:
        connection.push(message)
    assert sys.getrefcount(message) == before + 100


@asynchronous
async def test_a_client_that_keeps_up_gets_even_a_message_larger_than_the_bound() -> None:
    """A long transcript's snapshot goes to whoever has read all before it."""
    connection = Connection("c")
    sink = FakeSocket(connection, capacity=1)
    for _ in range(3):
        connection.push(b"x" * (MAX_QUEUED_BYTES + 1))
        assert len(cast(bytes, await sink.next())) == MAX_QUEUED_BYTES + 1
    assert connection.closing is None


@asynchronous
async def test_messages_keep_their_order_around_a_full_socket() -> None:
    """What waits leaves before what comes later, however often the socket fills up."""
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
    """One client that never reads is closed; the one beside it has every message."""
    async with alive(tmp_path, Speaker) as registry:
        slow = Connection("slow")
        registry.connect("Speaker", "a", slow)
        quick = join(registry, Speaker, "a", Connection("quick"))
        await quick.next(Caption)
        for number in range(20):
            await registry.call(call_to(Speaker, "a", Speaker.say, f"{number} {'x' * 100_000}"))
            await asyncio.sleep(0)  # the quick one reads
        await quick.until(lambda m: isinstance(m, Caption) and m.text.startswith("19 "))
        assert slow.closing is not None
        assert slow.closing.code == CLOSE_SLOW
        assert len(quick.messages) == 21


@asynchronous
async def test_a_close_comes_after_what_was_sent_and_the_first_one_counts() -> None:
    """Nothing that waits is lost by closing, and nothing is taken after it."""
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
    """A close frame holds 123 bytes of reason; the close itself is never lost."""
    connection = Connection("c")
    connection.close(1011, "ü" * 100)
    assert connection.closing == Close(1011, "ü" * 61)


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_codes_that_stand_for_no_code_are_never_sent(code: int) -> None:
    """A peer derives them by itself; sending one is an error in the program."""
    with pytest.raises(ValueError, match="never sent"):
        Connection("c").close(code)


@asynchronous
async def test_a_handler_that_closes_with_such_a_code_fails_before_anything_leaves(
    tmp_path: Path,
) -> None:
    """The transaction is undone; the object and its connections go on."""
    async with alive(tmp_path, Speaker) as registry:
        client = join(registry, Speaker, "a", Connection("c"))
        await client.next(Caption)
        with pytest.raises(PrepServerError):
            await registry.call(call_to(Speaker, "a", Speaker.hang_up, 1006))
        await registry.call(call_to(Speaker, "a", Speaker.say, "still here"))
        await client.until(lambda m: m == Caption(text="still here"))
        assert Caption(text="goodbye") not in client.messages


@asynchronous
async def test_a_client_that_is_gone_is_written_to_no_more() -> None:
    """What waited is forgotten, and what comes is dropped."""
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
