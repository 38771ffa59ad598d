"""Connections that the server or a proxy refuses, and messages that the server rejects."""

import asyncio

import pytest

from prepcli.client.room import Room
from prepcli.client.state import ConnectionStatus
from prepcli.errors import NotAuthorised, NotFound, RateLimited, ServerUnreachable
from prepserver.wire.client_messages import UserMessage, UserTyping
from prepserver.wire.codec import encode
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    CLOSE_DELETED,
    CLOSE_TOO_BIG,
    Accepted,
    Error,
    Failure,
    Snapshot,
)
from prepserver.wire.rest import ErrorBody
from tests.cli.client.event_reader import EventReader, FakeSleep, enter_room, run_with_room
from tests.support.fake_room import FakeRoom


def test_401_renews_the_token_immediately() -> None:
    """After status 401, the handshake is repeated with a new token and without a delay."""
    fake_sleep = FakeSleep()

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [401]
        async with enter_room(fake, sleep=fake_sleep) as (_, reader):
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)
        assert fake.renewals == [False, True]
        assert fake_sleep.delays == []

    run_with_room(test)


def test_second_401_in_a_row_is_final() -> None:
    """If a handshake with a new token is refused with status 401, the room raises NotAuthorised."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [401, 401]
        async with enter_room(fake) as (room, reader):
            await reader.read_status(ConnectionStatus.UNAUTHORIZED)
            with pytest.raises(NotAuthorised, match="prep login"):
                await anext(room)
            with pytest.raises(NotAuthorised):
                await room.send(UserTyping())
            with pytest.raises(StopAsyncIteration):
                await anext(room)

    run_with_room(test)


def test_401s_between_connections_are_not_in_a_row() -> None:
    """A room tolerates any number of expired tokens if connections succeed in between."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [401, 101, 401, 101]
        async with enter_room(fake) as (_, reader):
            await (await fake.next_peer()).drop()
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)

    run_with_room(test)


@pytest.mark.parametrize("status", [403, 404])
def test_forbidden_or_missing_room_is_final(status: int) -> None:
    """If the first handshake is refused with status 403 or 404, the room raises NotFound."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [status]
        async with enter_room(fake) as (room, reader):
            await reader.read_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound):
                await anext(room)
        assert len(fake.paths) == 1

    run_with_room(test)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_temporary_status_is_retried(status: int) -> None:
    """A handshake that is refused with status 429, 500, 502 or 503 is repeated."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [status] * 3
        async with enter_room(fake) as (_, reader):
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)
        assert len(fake.paths) == 4

    run_with_room(test)


def test_other_web_server_is_final() -> None:
    """If the first handshake is refused with a status that no prep server sends, the room raises
    ServerUnreachable."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [400]
        async with enter_room(fake) as (room, reader):
            await reader.read_status(ConnectionStatus.CLOSED)
            with pytest.raises(ServerUnreachable, match="no prep server"):
                await anext(room)

    run_with_room(test)


def test_deleted_room_is_final() -> None:
    """After close code 4004, the room does not reconnect, and a pending `stop` raises NotFound."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            recording = room.start_recording()
            stopping = asyncio.create_task(recording.stop())
            await (await fake.next_peer()).close(CLOSE_DELETED)
            await reader.read_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound, match="deleted"):
                await anext(room)
            with pytest.raises(NotFound, match="deleted"):
                await stopping
        assert len(fake.paths) == 1

    run_with_room(test)


def test_too_big_message_does_not_block_the_queue() -> None:
    """After close code 1009, the oversized message is dropped and reported, and later messages are
    delivered."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            for id in ("a", "b", "c"):
                await room.send(UserMessage(id=id, text=id))
            peer = await fake.next_peer()
            await peer.accept()
            await peer.receive()
            await peer.close(CLOSE_TOO_BIG)
            failure = await reader.read_next(Failure)
            assert (failure.id, failure.code) == ("b", ErrorCode.MESSAGE_TOO_BIG)
            assert await (await fake.next_peer()).accept() == UserMessage(id="c", text="c")
            await reader.read_until(lambda event: event == Accepted(id="c"))
            assert room.unacknowledged == 0

    run_with_room(test)


def test_rate_limited_token_request_is_retried() -> None:
    """A token request over the rate limit is repeated and does not end the room."""
    failures = [RateLimited("Too many requests.")]

    async def test(fake: FakeRoom) -> None:
        async def address(renew: bool) -> str:
            if failures:
                raise failures.pop()
            return await fake.address(renew)

        async with Room(address, sleep=FakeSleep()) as room:
            await (await fake.next_peer()).greet()
            await EventReader(room).read_next(Snapshot)

    run_with_room(test)


@pytest.mark.parametrize("status", [403, 404, 400, 200])
def test_response_of_a_proxy_does_not_end_an_entered_room(status: int) -> None:
    """An entered room repeats a handshake that is refused without the server's error body."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            peer = await fake.next_peer()
            await peer.greet()
            await reader.read_next(Snapshot)
            await room.send(UserMessage(id="a", text="a"))
            fake.statuses = [status, status]
            await peer.drop()
            assert await (await fake.next_peer()).accept() == UserMessage(id="a", text="a")

    run_with_room(test)


def test_not_found_from_the_server_ends_an_entered_room() -> None:
    """An entered room ends when the server itself refuses a handshake with status 404."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            peer = await fake.next_peer()
            await peer.greet()
            await reader.read_next(Snapshot)
            fake.statuses = [404]
            fake.body = encode(
                ErrorBody(Error(code=ErrorCode.NO_SUCH_INTERVIEW, message="No."))
            ).decode()
            await peer.drop()
            await reader.read_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound):
                await anext(room)

    run_with_room(test)
