"""Slow readers, silent clients and dead peers, in virtual time."""

from pathlib import Path

import pytest
from websockets.frames import Opcode

from prepserver.http.sockets import CLOSE_TIMEOUT, PING_AFTER
from prepserver.objects.connection import MAX_QUEUED_BYTES
from prepserver.wire import protocol as wire
from tests.support.echo_room import EchoRoom, caption, echo_server, opcodes
from tests.support.loop import asynchronous
from tests.support.objects import Gate, call_to, eventually

# --- Slow readers -------------------------------------------------------------------------------


@asynchronous
async def test_a_reader_that_stops_is_closed_with_4008_and_then_cut_off(tmp_path: Path) -> None:
    """What waits for it is bounded; when it does not even read the close, it is aborted."""
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
async def test_a_slow_reader_that_reads_on_hears_why(tmp_path: Path) -> None:
    """Behind the last whole message is the close frame, whose reason says how to resume."""
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
async def test_a_reader_that_catches_up_loses_nothing(tmp_path: Path) -> None:
    """What waited comes in order, then what is said later."""
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
async def test_pings_of_a_client_that_reads_nothing_do_not_pile_up(tmp_path: Path) -> None:
    """One pong waits, for the last of them."""
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
async def test_a_silent_client_is_asked_and_lives_when_it_answers(tmp_path: Path) -> None:
    """For as long as it likes, at the price of a ping now and then; the object sleeps on."""
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
async def test_a_dead_peer_is_gone_within_forty_seconds(tmp_path: Path) -> None:
    """It said nothing and answered no ping: aborted, and the room is told."""
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
async def test_a_dead_peer_that_is_written_to_is_gone_as_soon(tmp_path: Path) -> None:
    """That the kernel still takes messages for it is no sign of life."""
    async with echo_server(tmp_path) as it:
        dead = await it.connect_client()
        for _ in range(40):
            await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "hello?"))
            await it.clock.advance(1)
        assert dead.aborted


@asynchronous
async def test_a_slow_reader_that_makes_way_is_alive(tmp_path: Path) -> None:
    """Taking what was written is a sign of life even when there is no room for a ping."""
    async with echo_server(tmp_path) as it:
        slow = await it.connect_client()
        for _ in range(10):
            slow.write_blocked = True
            await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "x"))
            await it.clock.advance(30)
            slow.receive()
        assert not slow.closed


@asynchronous
async def test_a_client_whose_message_is_being_handled_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says meanwhile is not read; its silence begins when the room is done."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        gate = Gate(monkeypatch, "a")
        client.send("one", "two")
        await eventually(gate.reached.is_set)
        await it.clock.advance(60, wait_for_threads=False)
        assert not client.closed
        gate.open()
        await eventually(lambda: client.reading)
        assert await it.received() == ["one", "two"]


@asynchronous
async def test_a_clients_ping_is_answered_without_waking_the_object(tmp_path: Path) -> None:
    """The same data comes back; no event enters the mailbox."""
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
