"""Slow readers, idle clients and dead connections, in virtual time."""

from pathlib import Path

import pytest
from websockets.frames import Opcode

from prepserver.http.sockets import CLOSE_TIMEOUT, PING_AFTER
from prepserver.objects.connection import MAX_QUEUED_BYTES
from prepserver.wire import protocol as wire
from tests.support.echo_room import EchoRoom, caption, echo_server, opcodes
from tests.support.loop import asynchronous
from tests.support.objects import CommitGate, call_to, eventually

# --- Slow readers -------------------------------------------------------------------------------


@asynchronous
async def test_a_client_that_stops_reading_is_closed_and_aborted(tmp_path: Path) -> None:
    """If a client's queue overflows because the client does not read, its connection is closed and,
    after a timeout, aborted; other connections are unaffected."""
    async with echo_server(tmp_path) as it:
        slow, quick = await it.connect_client(), await it.connect_client()
        slow.write_blocked = True
        for number in range(30):
            await it.registry.call(
                call_to(
                    EchoRoom, "a", EchoRoom.broadcast, f"{number} {'x' * (MAX_QUEUED_BYTES // 10)}"
                )
            )
        assert len(slow.unread) < MAX_QUEUED_BYTES // 5, "one message and the close frame"
        assert it.connections[0].closing is not None
        assert not slow.aborted
        await it.clock.advance(CLOSE_TIMEOUT + 1)
        assert slow.aborted
        assert len(it.sockets.open_sockets) == 1
        assert await it.client_count() == 1
        quick.receive()
        assert len(quick.texts) == 30


@asynchronous
async def test_a_slow_client_receives_the_close_frame(tmp_path: Path) -> None:
    """A slow client that resumes reading after its queue has overflowed receives one message, then
    a close frame that gives the reason."""
    async with echo_server(tmp_path) as it:
        slow = await it.connect_client()
        slow.write_blocked = True
        for number in range(12):
            await it.registry.call(
                call_to(
                    EchoRoom, "a", EchoRoom.broadcast, f"{number} {'x' * (MAX_QUEUED_BYTES // 9)}"
                )
            )
        slow.receive()
        assert len(slow.texts) == 1
        assert slow.close_frame is not None
        assert slow.close_frame[0] == wire.CLOSE_SLOW
        assert "resume" in slow.close_frame[1]
        slow.flush()
        assert slow.closed
        assert not slow.aborted


@asynchronous
async def test_a_client_that_catches_up_loses_nothing(tmp_path: Path) -> None:
    """A client that resumes reading before its queue overflows receives all queued messages in
    order, followed by later ones."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.write_blocked = True
        for number in range(5):
            await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, str(number)))
        client.receive()
        await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "5"))
        client.receive()
        assert client.texts == [caption(str(number)) for number in range(6)]


@asynchronous
async def test_pongs_to_a_client_that_does_not_read_are_not_queued(tmp_path: Path) -> None:
    """While a client does not read, only the pong for its latest ping is kept."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.write_blocked = True
        await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "fills the socket"))
        before = len(client.unread)
        for number in range(1_000):
            client.client.send_ping(b"%d" % number)
            client.flush()
        assert len(client.unread) == before
        client.receive()
        (pong,) = client.receive()
        assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"999")


# --- Keep-alive ---------------------------------------------------------------------------------


@asynchronous
async def test_an_idle_client_that_answers_pings_stays_connected(tmp_path: Path) -> None:
    """An idle client that answers pings stays connected, and its object hibernates."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        pings = 0
        for _ in range(100):
            await it.clock.advance(10)
            pings += opcodes(client.receive()).count(Opcode.PING)
            client.flush()
        assert pings == 1_000 // PING_AFTER
        assert not client.closed
        assert it.registry.instance("EchoRoom", "a").hibernating


@asynchronous
async def test_a_dead_connection_is_aborted_within_40_seconds(tmp_path: Path) -> None:
    """A connection whose client answers no ping is aborted within 40 s of the client's last
    message, and the room is notified."""
    async with echo_server(tmp_path) as it:
        dead = await it.connect_client()
        await it.clock.advance(5)
        dead.send("my last words")
        await it.clock.advance(34)
        assert not dead.closed
        await it.clock.advance(3)
        assert dead.aborted
        assert await it.client_count() == 0


@asynchronous
async def test_writing_does_not_keep_a_dead_connection_alive(tmp_path: Path) -> None:
    """A connection whose client answers no ping is aborted, even if writes to the connection
    succeed."""
    async with echo_server(tmp_path) as it:
        dead = await it.connect_client()
        for _ in range(40):
            await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "hello?"))
            await it.clock.advance(1)
        assert dead.aborted


@asynchronous
async def test_a_slow_client_that_reads_is_alive(tmp_path: Path) -> None:
    """A client that reads slowly stays connected, even while no ping can be sent."""
    async with echo_server(tmp_path) as it:
        slow = await it.connect_client()
        for _ in range(10):
            slow.write_blocked = True
            await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "x"))
            await it.clock.advance(30)
            slow.receive()
        assert not slow.closed


@asynchronous
async def test_a_client_is_not_idle_while_its_message_is_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's idle time starts only when its last message has been handled."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        gate = CommitGate(monkeypatch, "a")
        client.send("one", "two")
        await eventually(gate.reached.is_set)
        await it.clock.advance(60, wait_for_threads=False)
        assert not client.closed
        gate.open()
        await eventually(lambda: client.reading)
        assert await it.received() == ["one", "two"]


@asynchronous
async def test_a_ping_is_answered_without_waking_the_object(tmp_path: Path) -> None:
    """A client's ping is answered with the same data and does not wake the hibernating object."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        await it.clock.advance(15)
        assert it.registry.instance("EchoRoom", "a").hibernating
        client.client.send_ping(b"are you there?")
        client.flush()
        (pong,) = client.receive()
        assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"are you there?")
        await it.registry.wait_for_handlers()
        assert it.registry.instance("EchoRoom", "a").hibernating
        client.send("wake up")
        await it.registry.wait_for_handlers()
        assert not it.registry.instance("EchoRoom", "a").hibernating
