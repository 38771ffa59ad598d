import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from prepcli.client.recording import FRAME_BYTES
from prepcli.client.room import Room
from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent
from prepcli.errors import NotAuthorised, NotFound, RateLimited, ServerUnreachable, UsageError
from prepserver.bodies import ErrorBody
from prepserver.protocol import (
    CLOSE_DELETED,
    CLOSE_RESTART,
    CLOSE_SLOW,
    CLOSE_TOO_BIG,
    Accepted,
    AudioAck,
    AudioStart,
    AudioStop,
    Caption,
    Error,
    Failure,
    GetAllMessages,
    Hello,
    Snapshot,
    UserMessage,
    UserTyping,
    encode,
)
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


def test_a_room_yields_its_connection_and_the_servers_messages() -> None:
    """Connecting, online, hello, snapshot: in this order, without a wait."""
    sleeper = Sleeper()

    async def test(fake: FakeRoom) -> None:
        async with entered(fake, sleep=sleeper) as (_, listener):
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)
            connecting, online, hello, snapshot = listener.events
        assert connecting == ConnectionChanged(ConnectionStatus.CONNECTING)
        assert online == ConnectionChanged(ConnectionStatus.ONLINE)
        assert isinstance(hello, Hello)
        assert isinstance(snapshot, Snapshot)
        assert sleeper.slept == []

    play(test)


def test_unknown_tags_and_garbage_are_skipped() -> None:
    """What a newer or a broken server says does not end the room, and is seen as a frame."""
    frames: list[str] = []

    async def test(fake: FakeRoom) -> None:
        async with entered(fake, on_frame=frames.append) as (_, listener):
            peer = await fake.peer()
            for data in ('{"type":"from.the.future","x":1}', "{", '{"type":"hello"}', b"\x00\x01"):
                await peer.send_raw(data)
            await peer.send(Caption(text="still here"))
            caption = await listener.until_a(Caption)
            assert caption == Caption(text="still here")
            assert not [
                e for e in listener.events if not isinstance(e, ConnectionChanged | Caption)
            ]

    play(test)
    assert frames == [
        '{"type":"from.the.future","x":1}',
        "{",
        '{"type":"hello"}',
        '{"type":"interview.caption","text":"still here"}',
    ]


@pytest.mark.parametrize("code", [1000, 1001, 1011, CLOSE_RESTART, CLOSE_SLOW])
def test_a_closed_connection_is_made_again(code: int) -> None:
    """Whatever the server's reason, the client comes back after a wait."""
    sleeper = Sleeper()

    async def test(fake: FakeRoom) -> None:
        async with entered(fake, sleep=sleeper) as (_, listener):
            await (await fake.peer()).close(code)
            offline = await listener.until_status(ConnectionStatus.OFFLINE)
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)
            assert offline == ConnectionChanged(ConnectionStatus.OFFLINE, sleeper.slept[0])
            assert 0.0 <= sleeper.slept[0] <= 0.25

    play(test)


def test_a_connection_that_is_cut_is_made_again_with_a_new_address() -> None:
    """Every attempt computes the address anew, and so has a fresh token."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (_, listener):
            await (await fake.peer()).drop()
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)
        assert [path.partition("?")[2] for path in fake.paths] == ["token=t1", "token=t2"]
        assert fake.renewals == [False, False]

    play(test)


def test_an_unanswered_message_is_repeated_after_a_reconnect_in_order() -> None:
    """What the server has acknowledged is not sent again; the rest comes with the same ids."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            for id in ("a", "b", "c"):
                await room.send(UserMessage(id=id, text=id))
            peer = await fake.peer()
            await peer.accept()
            await listener.until_a(Accepted)
            await peer.receive()
            await peer.drop()
            peer = await fake.peer()
            assert await peer.accept() == UserMessage(id="b", text="b")
            assert await peer.accept() == UserMessage(id="c", text="c")
            await listener.until(lambda event: event == Accepted(id="c"))
            assert room.waiting == 0

    play(test)


def test_messages_sent_while_offline_leave_after_the_connect() -> None:
    """Nothing typed while the server was away is lost."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [503, 503]
        async with entered(fake) as (room, _):
            await room.send(UserMessage(text="hello"))
            message = await (await fake.peer()).accept()
            assert isinstance(message, UserMessage)
            assert message.text == "hello"
            assert len(message.id) == 32

    play(test)


def test_a_refused_message_is_not_repeated() -> None:
    """An error with the message's id takes it out of the queue."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            await room.send(UserMessage(id="a", text="x"))
            peer = await fake.peer()
            await peer.receive()
            await peer.send(Failure(code="busy", message="Wait.", id="a"))
            await listener.until_a(Failure)
            await peer.drop()
            peer = await fake.peer()
            await listener.until_status(ConnectionStatus.ONLINE)
            await room.send(GetAllMessages())
            assert await peer.receive() == GetAllMessages()

    play(test)


def test_a_recording_survives_a_cut_connection() -> None:
    """After the reconnect the frames that the server has not stored come again, then the stop."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            recording = room.recording()
            recording.feed(FRAME * 3)
            peer = await fake.peer()
            assert await peer.receive() == AudioStart(id=recording.id)
            await peer.send(AudioAck(id=recording.id, frame=-1))
            assert [await peer.receive() for _ in range(3)] == [(n, FRAME) for n in range(3)]
            await peer.send(AudioAck(id=recording.id, frame=0))
            await listener.until(lambda e: isinstance(e, AudioAck) and e.frame == 0)
            await peer.drop()

            recording.feed(FRAME)  # spoken while nobody listened
            stopping = asyncio.create_task(recording.stop())
            peer = await fake.peer()
            assert await peer.receive() == AudioStart(id=recording.id)
            await peer.send(AudioAck(id=recording.id, frame=1))
            assert [await peer.receive() for _ in range(2)] == [(2, FRAME), (3, FRAME)]
            assert await peer.receive() == AudioStop(id=recording.id, frames=4)
            assert not stopping.done()
            await peer.send(Accepted(id=recording.id))
            async with asyncio.timeout(PATIENCE):
                await stopping

    play(test)


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


def test_a_handshake_without_an_answer_times_out_and_is_repeated() -> None:
    """A server that accepts and says nothing does not hold the client up."""

    async def test(fake: FakeRoom) -> None:
        fake.stalled = True
        async with entered(fake, connect_timeout=0.05) as (_, listener):
            await listener.until_status(ConnectionStatus.OFFLINE)
            fake.stalled = False
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)

    play(test)


def test_only_a_connection_that_lived_resets_the_backoff() -> None:
    """Connections that break at once make the waits grow; one of five seconds ends that."""
    sleeper = Sleeper()
    time = 0.0

    class Ceiling(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    async def test(fake: FakeRoom) -> None:
        nonlocal time
        options = {"sleep": sleeper, "rng": Ceiling(), "monotonic": lambda: time}
        async with entered(fake, **options) as (_, listener):
            for lived in (0.0, 4.9, 5.0, 0.0):
                peer = await fake.peer()
                await listener.until_status(ConnectionStatus.ONLINE)
                time += lived
                await peer.drop()
                await listener.until_status(ConnectionStatus.OFFLINE)

    play(test)
    assert sleeper.slept == pytest.approx([0.25, 0.4, 0.25, 0.4])


def test_a_restart_that_was_announced_is_waited_for_in_short_steps() -> None:
    """After 1012 no wait is longer than two seconds, even when the start takes its time."""
    sleeper = Sleeper()
    failures: list[ServerUnreachable] = []

    class Ceiling(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    async def test(fake: FakeRoom) -> None:
        async def address(renew: bool) -> str:
            if failures:
                raise failures.pop()
            return await fake.address(renew)

        async with Room(address, sleep=sleeper, rng=Ceiling()) as room:
            peer = await fake.peer()
            failures.extend([ServerUnreachable("away")] * 9)
            await peer.close(CLOSE_RESTART)
            await (await fake.peer()).greet()
            await Listener(room).until_a(Snapshot)

    play(test)
    assert len(sleeper.slept) == 10
    assert max(sleeper.slept) == 2.0


def test_an_address_that_cannot_be_had_is_tried_again() -> None:
    """The token comes from the same server, which may be away."""
    failures = [ServerUnreachable("away"), ServerUnreachable("away")]

    async def test(fake: FakeRoom) -> None:
        async def address(renew: bool) -> str:
            if failures:
                raise failures.pop()
            return await fake.address(renew)

        async with Room(address, sleep=Sleeper()) as room:
            await (await fake.peer()).greet()
            await Listener(room).until_a(Snapshot)
        assert failures == []

    play(test)


def test_an_address_that_is_none_ends_the_room() -> None:
    """A URL that no server can have is a mistake, not an outage."""

    async def run() -> None:
        async def address(renew: bool) -> str:
            return "gopher://127.0.0.1/?token=secret"

        async with Room(address) as room:
            with pytest.raises(UsageError) as raised:
                await Listener(room).until_a(Snapshot)
        assert "secret" not in str(raised.value)

    asyncio.run(run())


def test_leaving_ends_the_iteration_and_the_wait_for_a_recording() -> None:
    """Nothing hangs on a room that was left."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            peer = await fake.peer()
            await listener.until_status(ConnectionStatus.ONLINE)
            reading = asyncio.create_task(anext(room))
            stopping = asyncio.create_task(room.recording().stop())
            await peer.receive()
        with pytest.raises(StopAsyncIteration):
            await reading
        with pytest.raises(ServerUnreachable):
            await stopping
        with pytest.raises(ServerUnreachable):
            await room.send(UserTyping())

    play(test)


def test_the_token_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Even at the most talkative level the request line is not written."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [503]
        async with entered(fake) as (_, listener):
            await (await fake.peer()).greet()
            await listener.until_a(Snapshot)

    with caplog.at_level(logging.DEBUG, logger="prepcli"):
        play(test)
    ours = [record for record in caplog.records if record.name.startswith("prepcli")]
    assert ours
    assert not [record for record in ours if "token=" in record.getMessage()]


def test_a_deleted_room_is_left_for_good() -> None:
    """4004 is the server's last word: nobody connects again, and what waited is told why."""

    async def test(fake: FakeRoom) -> None:
        async with entered(fake) as (room, listener):
            recording = room.recording()
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
            assert room.waiting == 0

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
            fake.body = encode(ErrorBody(Error(code="no_such_interview", message="No."))).decode()
            await peer.drop()
            await listener.until_status(ConnectionStatus.CLOSED)
            with pytest.raises(NotFound):
                await anext(room)

    play(test)
