import asyncio
import logging
import random

import pytest

from prepcli.client.room import Room
from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import ServerUnreachable, UsageError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    CLOSE_RESTART,
    CLOSE_SLOW,
    Accepted,
    AudioAck,
    AudioStart,
    AudioStop,
    Caption,
    Failure,
    GetAllMessages,
    Hello,
    Snapshot,
    UserMessage,
    UserTyping,
)
from tests.cli.client.listener import FRAME, Listener, Sleeper, entered, play
from tests.support.fake_room import PATIENCE, FakeRoom


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
            assert room.unacknowledged == 0

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
            await peer.send(Failure(code=ErrorCode.BUSY, message="Wait.", id="a"))
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
            recording = room.start_recording()
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
            stopping = asyncio.create_task(room.start_recording().stop())
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
