"""A room that the server, or what stands before it, does not let in."""

import asyncio

import pytest

from prepcli.client.room import Room
from prepcli.client.state import ConnectionStatus
from prepcli.errors import NotAuthorised, NotFound, RateLimited, ServerUnreachable
from prepserver.wire.codec import encode
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    CLOSE_DELETED,
    CLOSE_TOO_BIG,
    Accepted,
    Error,
    Failure,
    Snapshot,
    UserMessage,
    UserTyping,
)
from prepserver.wire.rest import ErrorBody
from tests.cli.client.listener import Listener, Sleeper, entered, play
from tests.support.fake_room import FakeRoom


def test_a_401_renews_the_token_at_once() -> None:
    """An expired token costs one more handshake and no wait."""
    sleeper = Sleeper()

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [401]
        async with entered(fake, sleep=sleeper) as (_, listener):
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)
        assert fake.renewals == [False, True]
        assert sleeper.slept == []

    play(test)


def test_a_second_401_in_a_row_asks_for_the_login() -> None:
    """A fresh token that is refused means that the key is no good any more."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [401, 401]
        async with entered(fake) as (room, listener):
            await listener.until_status(ConnectionStatus.UNAUTHORIZED)
            with pytest.raises(NotAuthorised, match="prep login"):
                await anext(room)
            with pytest.raises(NotAuthorised):
                await room.send(UserTyping())
            with pytest.raises(StopAsyncIteration):
                await anext(room)

    play(test)


def test_401s_with_a_good_connection_between_them_are_not_in_a_row() -> None:
    """Tokens expire again and again in a long interview."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [401, 101, 401, 101]
        async with entered(fake) as (_, listener):
            await (await fake.peer()).drop()
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)

    play(test)


@pytest.mark.parametrize("status", [403, 404])
def test_somebody_elses_room_is_not_tried_again(status: int) -> None:
    """The answer would be the same."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [status]
        async with entered(fake) as (room, listener):
            await listener.until_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound):
                await anext(room)
        assert len(fake.paths) == 1

    play(test)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_in_trouble_is_tried_again(status: int) -> None:
    """A handshake that may succeed later is repeated."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [status] * 3
        async with entered(fake) as (_, listener):
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)
        assert len(fake.paths) == 4

    play(test)


def test_what_is_not_a_prep_server_is_not_tried_again() -> None:
    """A web server that knows no rooms says so with an answer that waiting does not change."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [400]
        async with entered(fake) as (room, listener):
            await listener.until_status(ConnectionStatus.CLOSED)
            with pytest.raises(ServerUnreachable, match="not a prep server"):
                await anext(room)

    play(test)


def test_a_deleted_room_is_left_for_good() -> None:
    """4004 is the server's last word: nobody connects again, and what waited is told why."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            recording = room.start_recording()
            stopping = asyncio.create_task(recording.stop())
            await (await fake.peer()).close(CLOSE_DELETED)
            await listener.until_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound, match="deleted"):
                await anext(room)
            with pytest.raises(NotFound, match="deleted"):
                await stopping
        assert len(fake.paths) == 1

    play(test)


def test_a_message_that_is_too_big_for_somebody_does_not_hold_up_the_rest() -> None:
    """1009 takes out the message that it is about, says so, and the others arrive."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            for id in ("a", "b", "c"):
                await room.send(UserMessage(id=id, text=id))
            peer = await fake.peer()
            await peer.accept()
            await peer.receive()
            await peer.close(CLOSE_TOO_BIG)
            failure = await listener.until_a(Failure)
            assert (failure.id, failure.code) == ("b", "message_too_big")
            assert await (await fake.peer()).accept() == UserMessage(id="c", text="c")
            await listener.until(lambda event: event == Accepted(id="c"))
            assert room.unacknowledged == 0

    play(test)


def test_an_address_that_is_asked_for_too_often_is_tried_again() -> None:
    """A server that limits how often tokens are given is not one that refuses them."""
    failures = [RateLimited("slowly")]

    async def test(fake: FakeRoom) -> None:
        async def address(renew: bool) -> str:
            if failures:
                raise failures.pop()
            return await fake.address(renew)

        async with Room(address, sleep=Sleeper()) as room:
            await (await fake.peer()).greet()
            await Listener(room).until_a(Snapshot)

    play(test)


@pytest.mark.parametrize("status", [403, 404, 400, 200])
def test_what_a_proxy_says_does_not_end_a_room_that_was_entered(status: int) -> None:
    """While a server is replaced its proxy says that nothing is there; the room goes on."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            peer = await fake.peer()
            await peer.greet()
            await listener.until_a(Snapshot)
            await room.send(UserMessage(id="a", text="a"))
            fake.statuses = [status, status]
            await peer.drop()
            assert await (await fake.peer()).accept() == UserMessage(id="a", text="a")

    play(test)


def test_what_the_server_says_ends_a_room_that_was_entered() -> None:
    """The server's own 404 is the truth: the interview was deleted meanwhile."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            peer = await fake.peer()
            await peer.greet()
            await listener.until_a(Snapshot)
            fake.statuses = [404]
            fake.body = encode(
                ErrorBody(Error(code=ErrorCode.NO_SUCH_INTERVIEW, message="No."))
            ).decode()
            await peer.drop()
            await listener.until_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound):
                await anext(room)

    play(test)
