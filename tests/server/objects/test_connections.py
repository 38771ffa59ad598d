"""A client's socket as an object sees it: bounded, tagged, with a small attachment."""

import asyncio
from pathlib import Path

import pytest

from prepserver.errors import BadRequest
from prepserver.objects.connections import (
    MAX_ATTACHMENT,
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    Close,
    Connection,
)
from prepserver.objects.object import DurableObject
from prepserver.protocol import CLOSE_SLOW, Caption
from tests.support.loop import asynchronous
from tests.support.objects import alive, join


class Speaker(DurableObject):
    """Says things to its room."""

    def say(self, text: str, exclude: tuple[str, ...] = (), tag: str | None = None) -> None:
        self.context.broadcast(Caption(text=text), exclude=exclude, tag=tag)

    def tagged(self, tag: str) -> list[str]:
        return sorted(connection.id for connection in self.context.connections(tag))

    def on_connect(self, connection: Connection) -> None:
        self.context.send(connection, Caption(text="welcome"))


@asynchronous
async def test_a_broadcast_reaches_everybody_but_who_is_excluded(tmp_path: Path) -> None:
    """One message, all connections, minus those named."""
    async with alive(tmp_path, Speaker) as registry:
        one, two = (join(registry, Speaker, "a", Connection(id)) for id in ("one", "two"))
        await registry.call("Speaker", "a", "say", "not for one", ("one",))
        await registry.call("Speaker", "a", "say", "for all")
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
        await registry.call("Speaker", "a", "say", "for watchers", (), "watching")
        await registry.call("Speaker", "a", "say", "end")
        await watching.until(lambda m: m == Caption(text="for watchers"))
        await talking.until(lambda m: m == Caption(text="end"))
        assert Caption(text="for watchers") not in talking.messages
        assert await registry.call("Speaker", "a", "tagged", "x") == ["w"]


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
    "frame",
    ["x" * (MAX_QUEUED_BYTES // 10), "ü" * (MAX_QUEUED_BYTES // 20), "x"],
    ids=["long", "long and not ASCII", "short"],
)
@asynchronous
async def test_a_slow_client_is_closed_with_a_code_that_tells_it_to_resume(frame: str) -> None:
    """Its outbox is bounded in bytes and in messages, and emptied at the bound."""
    connection = Connection("c")
    pushed = 0
    while connection.closing is None:
        connection.push(frame)
        pushed += 1
        assert pushed <= MAX_QUEUED_MESSAGES + 1
    # The one that crosses the bound is taken, the next one is too much.
    assert pushed == (12 if len(frame) > 1 else MAX_QUEUED_MESSAGES + 1)
    connection.push("after the end")
    assert await connection.next_frame() == connection.closing
    assert connection.closing.code == CLOSE_SLOW


@asynchronous
async def test_a_client_that_keeps_up_gets_even_a_frame_larger_than_the_bound(
    tmp_path: Path,
) -> None:
    """A long transcript's snapshot goes to whoever has read all before it."""
    connection = Connection("c")
    for _ in range(3):
        connection.push("x" * (MAX_QUEUED_BYTES + 1))
        assert len(str(await connection.next_frame())) == MAX_QUEUED_BYTES + 1
    assert connection.closing is None


@asynchronous
async def test_a_slow_client_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """One client that never reads is closed; the one beside it has every message."""
    async with alive(tmp_path, Speaker) as registry:
        slow = Connection("slow")
        registry.connect("Speaker", "a", slow)
        quick = join(registry, Speaker, "a", Connection("quick"))
        await quick.next(Caption)
        for number in range(20):
            await registry.call("Speaker", "a", "say", f"{number} {'x' * 100_000}")
            await asyncio.sleep(0)  # the quick one reads
        await quick.until(lambda m: isinstance(m, Caption) and m.text.startswith("19 "))
        assert slow.closing is not None
        assert slow.closing.code == CLOSE_SLOW
        assert len(quick.messages) == 21


@asynchronous
async def test_a_close_comes_after_what_was_sent_and_the_first_one_counts() -> None:
    """Nothing that was queued is lost by closing, and nothing is queued after it."""
    connection = Connection("c")
    connection.push("one")
    connection.close(1000, "done")
    connection.close(1011, "too late")
    connection.push("two")
    assert await connection.next_frame() == "one"
    assert await connection.next_frame() == Close(1000, "done")
    assert await connection.next_frame() == Close(1000, "done")


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_codes_that_stand_for_no_code_are_never_sent(code: int) -> None:
    """A peer derives them by itself; sending one is an error in the program."""
    with pytest.raises(ValueError, match="never sent"):
        Connection("c").close(code)


@asynchronous
async def test_whoever_waits_for_a_frame_is_woken() -> None:
    """The edge sleeps until there is something to write."""
    connection = Connection("c")
    waiting = asyncio.create_task(connection.next_frame())
    await asyncio.sleep(0)
    assert not waiting.done()
    connection.push("now")
    assert await waiting == "now"
