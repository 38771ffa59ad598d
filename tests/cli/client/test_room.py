import asyncio
import logging
import random

import pytest

from prepcli.client.room import Room
from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import ServerUnreachable, UsageError
from prepserver.wire.client_messages import (
    AudioStart,
    AudioStop,
    GetAllMessages,
    UserMessage,
    UserTyping,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    CLOSE_RESTART,
    CLOSE_SLOW,
    Accepted,
    AudioAck,
    Caption,
    Failure,
    Hello,
    Snapshot,
)
from tests.cli.client.event_reader import FRAME, EventReader, FakeSleep, enter_room, run_with_room
from tests.support.fake_room import TIMEOUT_SECONDS, FakeRoom


def test_room_yields_connection_changes_and_server_messages() -> None:
    """A room yields the statuses connecting and online, then the server's hello and snapshot."""
    fake_sleep = FakeSleep()

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake, sleep=fake_sleep) as (_, reader):
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)
            connecting, online, hello, snapshot = reader.events
        assert connecting == ConnectionChanged(ConnectionStatus.CONNECTING)
        assert online == ConnectionChanged(ConnectionStatus.ONLINE)
        assert isinstance(hello, Hello)
        assert isinstance(snapshot, Snapshot)
        assert fake_sleep.delays == []

    run_with_room(test)


def test_unknown_and_invalid_messages_are_skipped() -> None:
    """Invalid and unknown messages are skipped; `on_frame` receives every text message."""
    frames: list[str] = []

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake, on_frame=frames.append) as (_, reader):
            peer = await fake.next_peer()
            for data in ('{"type":"from.the.future","x":1}', "{", '{"type":"hello"}', b"\x00\x01"):
                await peer.send_raw(data)
            await peer.send(Caption(text="next"))
            caption = await reader.read_next(Caption)
            assert caption == Caption(text="next")
            assert not [e for e in reader.events if not isinstance(e, ConnectionChanged | Caption)]

    run_with_room(test)
    assert frames == [
        '{"type":"from.the.future","x":1}',
        "{",
        '{"type":"hello"}',
        '{"type":"interview.caption","text":"next"}',
    ]


@pytest.mark.parametrize("code", [1000, 1001, 1011, CLOSE_RESTART, CLOSE_SLOW])
def test_closed_connection_is_reopened(code: int) -> None:
    """After a close code that is not final, the client reconnects with a delay."""
    fake_sleep = FakeSleep()

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake, sleep=fake_sleep) as (_, reader):
            await (await fake.next_peer()).close(code)
            offline = await reader.read_status(ConnectionStatus.OFFLINE)
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)
            assert offline == ConnectionChanged(ConnectionStatus.OFFLINE, fake_sleep.delays[0])
            assert 0.0 <= fake_sleep.delays[0] <= 0.25

    run_with_room(test)


def test_each_attempt_requests_an_address() -> None:
    """Each attempt to connect requests a room address that contains a token."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (_, reader):
            await (await fake.next_peer()).drop()
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)
        assert [path.partition("?")[2] for path in fake.paths] == ["token=t1", "token=t2"]
        assert fake.renewals == [False, False]

    run_with_room(test)


def test_unacknowledged_messages_are_resent_in_order() -> None:
    """After a reconnect, the unacknowledged messages are resent in order, under the same ids."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            for id in ("a", "b", "c"):
                await room.send(UserMessage(id=id, text=id))
            peer = await fake.next_peer()
            await peer.accept()
            await reader.read_next(Accepted)
            await peer.receive()
            await peer.drop()
            peer = await fake.next_peer()
            assert await peer.accept() == UserMessage(id="b", text="b")
            assert await peer.accept() == UserMessage(id="c", text="c")
            await reader.read_until(lambda event: event == Accepted(id="c"))
            assert room.unacknowledged == 0

    run_with_room(test)


def test_messages_queued_offline_are_sent_on_connecting() -> None:
    """A message sent while the server refuses connections is delivered over a later connection."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [503, 503]
        async with enter_room(fake) as (room, _):
            await room.send(UserMessage(text="hello"))
            message = await (await fake.next_peer()).accept()
            assert isinstance(message, UserMessage)
            assert message.text == "hello"
            assert len(message.id) == 32

    run_with_room(test)


def test_refused_message_is_not_resent() -> None:
    """A rejected message is not resent after a reconnect."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            await room.send(UserMessage(id="a", text="x"))
            peer = await fake.next_peer()
            await peer.receive()
            await peer.send(Failure(code=ErrorCode.BUSY, message="Wait.", id="a"))
            await reader.read_next(Failure)
            await peer.drop()
            peer = await fake.next_peer()
            await reader.read_status(ConnectionStatus.ONLINE)
            await room.send(GetAllMessages())
            assert await peer.receive() == GetAllMessages()

    run_with_room(test)


def test_recording_survives_a_lost_connection() -> None:
    """After a reconnect, the frames that the server lacks are resent, then `audio.stop`."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            recording = room.start_recording()
            recording.feed(FRAME * 3)
            peer = await fake.next_peer()
            assert await peer.receive() == AudioStart(id=recording.id)
            await peer.send(AudioAck(id=recording.id, frame=-1))
            assert [await peer.receive() for _ in range(3)] == [(n, FRAME) for n in range(3)]
            await peer.send(AudioAck(id=recording.id, frame=0))
            await reader.read_until(lambda e: isinstance(e, AudioAck) and e.frame == 0)
            await peer.drop()

            recording.feed(FRAME)  # recorded while offline
            stopping = asyncio.create_task(recording.stop())
            peer = await fake.next_peer()
            assert await peer.receive() == AudioStart(id=recording.id)
            await peer.send(AudioAck(id=recording.id, frame=1))
            assert [await peer.receive() for _ in range(2)] == [(2, FRAME), (3, FRAME)]
            assert await peer.receive() == AudioStop(id=recording.id, frames=4)
            assert not stopping.done()
            await peer.send(Accepted(id=recording.id))
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await stopping

    run_with_room(test)


def test_stalled_handshake_times_out() -> None:
    """A handshake without a response times out and is repeated."""

    async def test(fake: FakeRoom) -> None:
        fake.stalled = True
        async with enter_room(fake, connect_timeout=0.05) as (_, reader):
            await reader.read_status(ConnectionStatus.OFFLINE)
            fake.stalled = False
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)

    run_with_room(test)


def test_only_a_stable_connection_resets_the_backoff() -> None:
    """The reconnect delay grows until a connection has lasted at least five seconds."""
    fake_sleep = FakeSleep()
    time = 0.0

    class MaxRandom(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    async def test(fake: FakeRoom) -> None:
        nonlocal time
        options = {"sleep": fake_sleep, "rng": MaxRandom(), "monotonic": lambda: time}
        async with enter_room(fake, **options) as (_, reader):
            for duration in (0.0, 4.9, 5.0, 0.0):
                peer = await fake.next_peer()
                await reader.read_status(ConnectionStatus.ONLINE)
                time += duration
                await peer.drop()
                await reader.read_status(ConnectionStatus.OFFLINE)

    run_with_room(test)
    assert fake_sleep.delays == pytest.approx([0.25, 0.4, 0.25, 0.4])


def test_announced_restart_keeps_delays_short() -> None:
    """After close code 1012, none of the next ten reconnect delays exceeds 2 s."""
    fake_sleep = FakeSleep()
    failures: list[ServerUnreachable] = []

    class MaxRandom(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    async def test(fake: FakeRoom) -> None:
        async def address(renew: bool) -> str:
            if failures:
                raise failures.pop()
            return await fake.address(renew)

        async with Room(address, sleep=fake_sleep, rng=MaxRandom()) as room:
            peer = await fake.next_peer()
            failures.extend([ServerUnreachable("away")] * 9)
            await peer.close(CLOSE_RESTART)
            await (await fake.next_peer()).greet()
            await EventReader(room).read_next(Snapshot)

    run_with_room(test)
    assert len(fake_sleep.delays) == 10
    assert max(fake_sleep.delays) == 2.0


def test_unreachable_token_endpoint_is_retried() -> None:
    """A token request that does not reach the server is repeated until a request succeeds."""
    failures = [ServerUnreachable("away"), ServerUnreachable("away")]

    async def test(fake: FakeRoom) -> None:
        async def address(renew: bool) -> str:
            if failures:
                raise failures.pop()
            return await fake.address(renew)

        async with Room(address, sleep=FakeSleep()) as room:
            await (await fake.next_peer()).greet()
            await EventReader(room).read_next(Snapshot)
        assert failures == []

    run_with_room(test)


def test_invalid_address_ends_the_room() -> None:
    """An invalid address ends the room with an error that does not contain the token."""

    async def run() -> None:
        async def address(renew: bool) -> str:
            return "gopher://127.0.0.1/?token=secret"

        async with Room(address) as room:
            with pytest.raises(UsageError) as raised:
                await EventReader(room).read_next(Snapshot)
        assert "secret" not in str(raised.value)

    asyncio.run(run())


def test_leaving_the_room_ends_every_wait() -> None:
    """Leaving the room ends the iteration; a pending `stop` and a later `send` raise an error."""

    async def test(fake: FakeRoom) -> None:
        async with enter_room(fake) as (room, reader):
            peer = await fake.next_peer()
            await reader.read_status(ConnectionStatus.ONLINE)
            reading = asyncio.create_task(anext(room))
            stopping = asyncio.create_task(room.start_recording().stop())
            await peer.receive()
        with pytest.raises(StopAsyncIteration):
            await reading
        with pytest.raises(ServerUnreachable):
            await stopping
        with pytest.raises(ServerUnreachable):
            await room.send(UserTyping())

    run_with_room(test)


def test_token_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No log message contains the token, even at the debug level."""

    async def test(fake: FakeRoom) -> None:
        fake.statuses = [503]
        async with enter_room(fake) as (_, reader):
            await (await fake.next_peer()).greet()
            await reader.read_next(Snapshot)

    with caplog.at_level(logging.DEBUG, logger="prepcli"):
        run_with_room(test)
    ours = [record for record in caplog.records if record.name.startswith("prepcli")]
    assert ours
    assert not [record for record in ours if "token=" in record.getMessage()]
