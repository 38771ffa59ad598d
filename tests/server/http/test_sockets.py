"""A room's socket: the handshake, the messages, and every way in which the socket closes."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from websockets.frames import Opcode

from prepserver.errors import Forbidden
from prepserver.http.sockets import (
    CLOSE_TIMEOUT,
    READ_BUFFER_BYTES,
    SHUTDOWN_CLOSE_TIMEOUT,
    Sockets,
)
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.wire import codec, limits
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.echo_room import EchoRoom, caption, echo_server, masked_text_frame, opcodes
from tests.support.fake_transport import FakeTransport
from tests.support.loop import asynchronous
from tests.support.objects import CommitGate, call_to, eventually

# --- The handshake ------------------------------------------------------------------------------


@asynchronous
async def test_a_rejection_is_an_http_response(tmp_path: Path) -> None:
    """A rejected handshake receives an HTTP response with the status and body of the error."""
    async with echo_server(tmp_path) as it:
        refused = FakeTransport(it.sockets, "/parties/forbidden/x")
        await refused.perform_handshake()
        assert refused.response is not None
        assert refused.response.status_code == 403
        assert refused.response.body is not None
        assert msgspec.json.decode(refused.response.body)["error"]["message"] == "Not yours."
        assert refused.closed
        assert not it.sockets.open_sockets


@pytest.mark.parametrize(
    "request_lines",
    [
        ["POST /parties/a/b HTTP/1.1"],
        ["GET /parties/a/b HTTP/1.1", "Content-Length: 2"],
        ["GET /parties/a/b HTTP/1.1", "Sec-WebSocket-Version: 12"],
        ["GET /parties/a/b HTTP/1.1", "Sec-WebSocket-Key: \xff"],
        ["GET /parties/a/b HTTP/1.1", "Sec-WebSocket-Protocol: \xff,,a b"],
        ["GET /parties/a/b HTTP/1.0"],
        ["GET /parties/a/" + "b" * 10_000 + " HTTP/1.1"],
        ["GET /parties/a/b HTTP/1.1", "X: " + "y" * 10_000],
        ["GET /parties/a/b HTTP/1.1", *["X: y"] * 300],
        ["\x16\x03\x01"],
    ],
)
@asynchronous
async def test_an_invalid_handshake_is_rejected_with_an_error(
    tmp_path: Path, request_lines: list[str]
) -> None:
    """A handshake that is not valid receives status 400 with a typed error, and the connection is
    closed at once."""
    headers = ["Host: here", "Connection: Upgrade", "Upgrade: websocket"]
    if not any("Version" in line for line in request_lines):
        headers.append("Sec-WebSocket-Version: 13")
    if not any("Key" in line for line in request_lines):
        headers.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    async with echo_server(tmp_path) as it:
        client = FakeTransport(it.sockets)
        client.client.connect()
        client.send_raw("\r\n".join([*request_lines, *headers, "", ""]).encode("latin-1"))
        head, _, body = bytes(client.unread).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        error = msgspec.json.decode(body)["error"]
        assert error["code"] == ErrorCode.NOT_WEBSOCKET
        assert client.closed
        await asyncio.sleep(0)
        assert not it.sockets.open_sockets


@asynchronous
async def test_messages_sent_during_the_handshake_are_delivered(tmp_path: Path) -> None:
    """Messages that a client sends before the handshake response are delivered."""
    async with echo_server(tmp_path) as it:
        it.admitting.clear()
        early = FakeTransport(it.sockets)
        early.client.send_request(early.client.connect())
        early.flush()
        await asyncio.sleep(0)
        early.send_raw(masked_text_frame(b"early"))
        assert not early.reading, "a second message waits unread"
        it.admitting.set()
        await asyncio.gather(*early.state.tasks)
        await it.registry.wait_for_handlers()
        early.receive()
        assert early.texts == [caption("early")]


@asynchronous
async def test_a_client_that_disconnects_during_the_handshake(tmp_path: Path) -> None:
    """A client that disconnects during the handshake leaves no connection behind."""
    async with echo_server(tmp_path) as it:
        it.admitting.clear()
        hasty = FakeTransport(it.sockets)
        hasty.client.send_request(hasty.client.connect())
        hasty.flush()
        await asyncio.sleep(0)
        hasty.drop_connection()
        it.admitting.set()
        await asyncio.gather(*hasty.state.tasks)
        assert await it.client_count() == 0
        assert not it.sockets.open_sockets
        assert not hasty.state.connections


# --- Messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 87, 88, 89, 65_497, 65_498, 65_499, 300_000])
@asynchronous
async def test_messages_of_all_lengths(tmp_path: Path, size: int) -> None:
    """A message arrives complete, even if its length is close to a length at which the frame header
    grows."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, "x" * size))
        client.receive()
        assert client.texts == [caption("x" * size)]


@asynchronous
async def test_fragmented_messages_are_joined(tmp_path: Path) -> None:
    """Fragments are joined into one message, even if a ping arrives between them."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.client.send_text(b"in ", fin=False)
        client.client.send_ping(b"still there?")
        client.client.send_continuation("drei Stück".encode()[:7], fin=False)
        client.client.send_continuation("drei Stück".encode()[7:], fin=True)
        client.client.send_binary(b"12", fin=False)
        client.client.send_continuation(b"345", fin=True)
        client.flush()
        await eventually(lambda: len(client.receive() and client.texts) == 2)
        assert await it.received() == ["in drei Stück", "5 bytes"]
        assert opcodes(client.frames).count(Opcode.PONG) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),
        (b"\xf1\x80\x00\x00\x00\x00", 1002),
        (b"\x80\x80\x00\x00\x00\x00", 1002),
        (b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00", 1009),
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
    ],
    ids=["not masked", "reserved bits", "a continuation of nothing", "too long", "not UTF-8"],
)
@asynchronous
async def test_protocol_violations_close_with_their_code(
    tmp_path: Path, data: bytes, code: int
) -> None:
    """A protocol violation closes the connection with the close code for the violation and affects
    no other connection."""
    async with echo_server(tmp_path) as it:
        client, other = await it.connect_client(), await it.connect_client()
        client.send_raw(data)
        client.receive()
        assert client.close_frame is not None
        assert client.close_frame[0] == code
        other.send("fine")
        assert await it.received() == ["fine"]


@asynchronous
async def test_an_oversized_text_message(tmp_path: Path) -> None:
    """A text message above the maximum size is answered with an error and close code 1009, and
    later messages are discarded."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.send("before")
        client.client.send_text(b"x" * limits.MAX_TEXT_FRAME, fin=False)
        client.client.send_continuation(b"x", fin=True)
        client.client.send_text(b"after")
        client.flush()
        await eventually(lambda: bool(client.receive()) and client.close_frame is not None)
        before, failure = map(codec.decode_server, client.texts)
        assert before == wire.Caption(text="before")
        assert isinstance(failure, wire.Failure)
        assert failure.code == ErrorCode.MESSAGE_TOO_BIG
        assert client.close_frame is not None
        assert client.close_frame[0] == wire.CLOSE_TOO_BIG
        assert await it.received() == ["before"]


@asynchronous
async def test_a_flood_of_messages_is_not_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a message is being handled, reading pauses as soon as another message arrives; every
    message is delivered once and in order."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        gate = CommitGate(monkeypatch, "a")
        sent = [str(number) for number in range(50)]
        client.send(sent[0])
        await eventually(gate.reached.is_set)
        assert client.reading, "a single message does not pause reading"
        client.send(*sent[1:])
        assert not client.reading
        gate.open()
        await eventually(lambda: client.reading)
        assert await it.received() == sent
        client.receive()
        assert client.texts == [caption(text) for text in sent]


def test_sockets_share_one_read_buffer(tmp_path: Path) -> None:
    """All sockets share one read buffer of bounded size."""
    sockets = Sockets(_reject, ManualClock())
    one, two = FakeTransport(sockets).socket, FakeTransport(sockets).socket
    assert one.get_buffer(-1) is two.get_buffer(1_000_000)
    assert len(one.get_buffer(-1)) == READ_BUFFER_BYTES


# --- The end ------------------------------------------------------------------------------------


@asynchronous
async def test_messages_before_a_close_frame_are_delivered(tmp_path: Path) -> None:
    """Messages that arrive together with a close frame are delivered."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.client.send_text(b"one")
        client.client.send_text(b"two")
        client.client.send_close(1000, "bye")
        client.flush()
        assert client.closed
        assert not client.aborted
        client.receive()
        assert client.close_frame == (1000, "bye")
        await it.registry.wait_for_handlers()
        assert await it.received() == ["one", "two"]
        assert await it.client_count() == 0


@pytest.mark.parametrize("how", ["drop", "eof"])
@asynchronous
async def test_messages_before_a_lost_connection_are_delivered(tmp_path: Path, how: str) -> None:
    """Messages that arrive before a connection is lost or half-closed are delivered."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.send("one", "two")
        if how == "eof":
            client.socket.eof_received()
        client.drop_connection()
        await it.registry.wait_for_handlers()
        assert await it.received() == ["one", "two"]
        assert await it.client_count() == 0
        assert not client.state.connections


@asynchronous
async def test_an_unanswered_close_frame_aborts_the_connection(tmp_path: Path) -> None:
    """If a client does not answer the close frame, its connection is aborted after a timeout, and
    its later messages are discarded."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        it.connections[0].close(1000, "done")
        client.send_raw(masked_text_frame(b"too late"))
        await it.clock.advance(CLOSE_TIMEOUT - 1)
        assert not client.aborted
        await it.clock.advance(2)
        assert client.aborted
        assert await it.received() == []


@asynchronous
async def test_messages_behind_the_servers_close_frame_are_discarded(
    tmp_path: Path,
) -> None:
    """A message that arrives together with the client's answer to the close frame is discarded."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        it.connections[0].close(1000, "done")
        late = masked_text_frame(b"too late")
        client.receive()
        assert client.close_frame == (1000, "done")
        client.send_raw(late + b"".join(client.client.data_to_send()))
        assert client.closed
        await it.registry.wait_for_handlers()
        assert await it.received() == []
        assert await it.client_count() == 0


@pytest.mark.parametrize("bad", [b"x" * (limits.MAX_TEXT_FRAME + 1), b"\xff"], ids=["big", "bytes"])
@asynchronous
async def test_messages_behind_a_fatal_message_are_discarded(tmp_path: Path, bad: bytes) -> None:
    """Messages that follow an oversized or non-UTF-8 message are discarded, even if the client then
    closes the connection."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.client.send_text(b"before")
        client.client.send_text(bad)
        client.client.send_text(b"after")
        client.client.send_close(1000, "bye")
        client.flush()
        assert client.closed
        await it.registry.wait_for_handlers()
        assert await it.received() == ["before"]
        assert await it.client_count() == 0


@asynchronous
async def test_a_close_frame_behind_a_full_socket(tmp_path: Path) -> None:
    """A close frame waits for earlier output; if the socket stays full, the connection is aborted
    after a timeout."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        client.write_blocked = True
        for text in ("fills the socket", "waits"):
            await it.registry.call(call_to(EchoRoom, "a", EchoRoom.broadcast, text))
        it.connections[0].close(1000, "done")
        await it.clock.advance(CLOSE_TIMEOUT - 1)
        assert not client.aborted
        await it.clock.advance(3)
        assert client.aborted


@asynchronous
async def test_shutdown_answers_the_pending_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At shutdown, a pending message is answered before its connection is closed."""
    async with echo_server(tmp_path) as it:
        busy, idle = await it.connect_client(), await it.connect_client()
        gate = CommitGate(monkeypatch, "a")
        busy.send("the last")
        await eventually(gate.reached.is_set)
        for one in (busy, idle):
            one.socket.shutdown()
        idle.receive()
        busy.receive()
        assert idle.close_frame == (wire.CLOSE_RESTART, "the server is restarting")
        assert busy.close_frame is None
        assert not busy.reading
        gate.open()
        await eventually(lambda: busy.reading)
        busy.receive()
        assert busy.texts == [caption("the last")]
        assert busy.close_frame == idle.close_frame
        busy.flush()
        assert busy.closed
        await it.clock.advance(SHUTDOWN_CLOSE_TIMEOUT + 1)
        assert idle.aborted, "the client did not answer the close frame"


@asynchronous
async def test_shutdown_shortens_the_close_timeout(tmp_path: Path) -> None:
    """At shutdown, the shorter close timeout also applies to a connection that is already
    closing."""
    async with echo_server(tmp_path) as it:
        client = await it.connect_client()
        it.connections[0].close(1000, "done")
        client.socket.shutdown()
        await it.clock.advance(SHUTDOWN_CLOSE_TIMEOUT + 1)
        assert client.aborted


async def _reject(target: str) -> tuple[Connection, Instance]:
    raise Forbidden("Rejected.", code=ErrorCode.NOT_YOUR_ROOM)
