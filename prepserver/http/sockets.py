"""WebSocket connections: handshake, messages, flow control, keep-alive and closing.

uvicorn passes every upgrade request to a `RoomSocket`, an asyncio protocol that connects the
transport to the room. A message from an object is written to the transport directly by the call
that sends the message. An idle connection costs no background task, no queue and no timer of its
own.
"""

import asyncio
import http
import struct
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from prepserver.clock import Clock
from prepserver.errors import BadRequest, PrepServerError
from prepserver.http.errors import encode_error
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.wire import codec, limits
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ConnectionOpener", "RoomSocket", "Sockets"]

CHECK_INTERVAL = 1.0
"""Seconds between two keep-alive checks of all sockets."""
PING_AFTER = 20.0
"""Seconds without data from a client after which a ping is sent."""
IDLE_TIMEOUT = 35.0
"""Seconds without data from a client after which the connection is aborted. The documented limit is
40 s; the difference allows for delays on a busy machine."""
CLOSE_TIMEOUT = 10.0
"""Seconds within which a client must read the pending output and answer the close frame that
follows."""
SHUTDOWN_CLOSE_TIMEOUT = 3.0
"""Seconds within which a client must answer a close frame while the server is shutting down."""

MAX_MESSAGE_BYTES = 2 * limits.MAX_BINARY_FRAME
"""Maximum size in bytes of a message that the parser accepts. The maximum exceeds the protocol's
limits, so that a message slightly above these limits is answered with an error."""

CLOSE_INVALID = 1007
"""Close code for text that is not UTF-8 (RFC 6455, 7.4.1)."""

READ_BUFFER_BYTES = 32 * 1024
"""Maximum number of bytes per read. Beyond one message, the server buffers no more of a client's
input than one read."""

_read_buffer = memoryview(bytearray(READ_BUFFER_BYTES))
"""Read buffer that all sockets share. Each socket consumes the data before another socket reads."""

ConnectionOpener = Callable[[str], Awaitable[tuple[Connection, Instance]]]
"""Function that authenticates the client from the request target and returns the client's
connection and the room's instance.

Raises PrepServerError to refuse the handshake.
"""

log = structlog.get_logger(__name__)


class Sockets:
    """Set of all open sockets, with a keep-alive that the sockets share."""

    def __init__(self, open_connection: ConnectionOpener, clock: Clock) -> None:
        self.open_connection = open_connection
        self.clock = clock
        self.open_sockets: set[RoomSocket] = set()

    def create_protocol(
        self, config: object, server_state: ServerState, app_state: object
    ) -> "RoomSocket":
        """Create the socket for an upgrade request. uvicorn calls this method."""
        return RoomSocket(self, server_state)

    async def run_keepalive(self) -> None:
        """Ping idle clients and abort dead connections until the task is cancelled."""
        while True:
            await self.clock.sleep(CHECK_INTERVAL)
            now = self.clock.monotonic()
            for socket in list(self.open_sockets):
                socket.check_keepalive(now)


class RoomSocket(asyncio.BufferedProtocol):
    """Socket of one client, from the handshake until the transport is closed."""

    __slots__ = (
        "_close_deadline",
        "_connection",
        "_disconnected",
        "_fragments",
        "_inbox",
        "_instance",
        "_is_text",
        "_last_received",
        "_message_pending",
        "_ping_sent",
        "_queued_pong",
        "_reading",
        "_server_state",
        "_sockets",
        "_stopping",
        "_transport",
        "_write_paused",
        "_ws",
    )

    def __init__(self, sockets: Sockets, server_state: ServerState) -> None:
        self._sockets = sockets
        self._server_state = server_state
        self._ws = ServerProtocol(max_size=MAX_MESSAGE_BYTES)
        self._transport: asyncio.Transport
        self._connection: Connection | None = None
        self._instance: Instance | None = None
        self._inbox: deque[tuple[bool, bytes]] = deque()
        self._is_text = False
        self._fragments: list[bytes] = []
        self._queued_pong = b""
        # The handshake counts as a message that the room has not handled yet.
        self._message_pending = True
        self._reading = True
        self._write_paused = self._disconnected = self._stopping = self._ping_sent = False
        self._last_received = sockets.clock.monotonic()
        self._close_deadline: float | None = None

    # --- The transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Output that the kernel does not accept waits in the Connection, where it is bounded and
        # shared between clients, rather than as a copy in the transport.
        transport.set_write_buffer_limits(high=0)
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._sockets.open_sockets.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._sockets.open_sockets.discard(self)
        self._disconnect()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_read_buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        self._last_received = self._sockets.clock.monotonic()
        self._ping_sent = False
        self._ws.receive_data(data)  # type: ignore[arg-type]
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._handle_handshake(event)
            elif isinstance(event, Frame):
                self._receive_frame(event)
        if self._ws.handshake_exc is not None:
            # The parser has found no request, or has prepared a response of its own.
            self._ws.data_to_send()
            self._reject(_build_rejection(_invalid_handshake(str(self._ws.handshake_exc))))
        elif self._ws.close_rcvd is None and self._ws.parser_exc is None:
            self._write_pongs()
            self._process_inbox()
        else:
            # The client has sent a close frame or violated the protocol.
            self._end_connection()

    def eof_received(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = self._ping_sent = False
        self._last_received = self._sockets.clock.monotonic()  # the client has read what was sent
        if self._queued_pong:
            self._transport.write(self._queued_pong)
            self._queued_pong = b""
        if self._connection is not None and not self._write_paused:
            self._connection.drain()

    # --- Called by the Connection -------------------------------------------------------------

    def write(self, message: bytes) -> bool:
        """Write a text message. Return False if the transport accepts no more data for now."""
        self._transport.write(_build_text_frame(message))
        return not self._write_paused

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, discard unhandled messages, and start the timer that limits the wait
        for the client's close frame."""
        if self._ws.state is OPEN:
            self._ws.send_close(code, reason)
            self._write_pending()
        self._start_close_timer()
        # Messages behind the close frame cannot be answered.
        self._inbox.clear()
        self._set_reading(True)

    # --- The handshake ------------------------------------------------------------------------

    def _handle_handshake(self, request: Request) -> None:
        response = self._ws.accept(request)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            return  # `data_received` rejects it
        task = asyncio.get_running_loop().create_task(self._open_connection(request.path, response))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _open_connection(self, target: str, response: Response) -> None:
        try:
            self._connection, self._instance = await self._sockets.open_connection(target)
        except Exception as error:
            if not isinstance(error, PrepServerError):
                log.exception("room.open_failed")
                error = PrepServerError(
                    "The server failed to open the room. Try again.", retryable=True
                )
            self._reject(_build_rejection(error))
            return
        self._message_pending = False
        if self._disconnected:
            self._connection.detach()
        else:
            self._ws.send_response(response)
            self._write_pending()
            self._connection.attach(self)
        self._process_inbox()

    def _reject(self, response: Response) -> None:
        if not self._disconnected:
            self._transport.write(response.serialize())
            self._end_connection()

    # --- Messages from the client -------------------------------------------------------------

    def _receive_frame(self, frame: Frame) -> None:
        """Append a frame to its message, and append a complete message to the inbox.

        Control frames are ignored: the parser answers pings.
        """
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            self._inbox.append((self._is_text, b"".join(self._fragments)))
            self._fragments.clear()

    def _process_inbox(self) -> None:
        """Deliver each message in the inbox once the room has handled the previous message.

        While a message waits in the inbox, later messages stay unread in the kernel's socket
        buffer. When the inbox is empty, complete a disconnection or a shutdown.
        """
        connection, instance = self._connection, self._instance
        if connection is None or instance is None:
            self._set_reading(not self._inbox)
            return
        while self._inbox and not self._message_pending:
            if connection.closing is not None and not self._disconnected:
                self._inbox.clear()  # the client cannot receive the answer
            else:
                self._deliver_message(instance, connection, *self._inbox.popleft())
        if self._message_pending:
            self._set_reading(not self._inbox and not self._stopping)
        elif self._disconnected:
            self._connection = self._instance = None
            instance.disconnect(connection)
        elif self._stopping:
            connection.close(wire.CLOSE_RESTART, "the server is restarting")
        else:
            self._set_reading(True)

    def _deliver_message(
        self, instance: Instance, connection: Connection, text: bool, data: bytes
    ) -> None:
        """Deliver a message to the room.

        A text message that is too long or not UTF-8 closes the connection. All later messages are
        then discarded, even if the client has disconnected.
        """
        if text and len(data) > limits.MAX_TEXT_FRAME:
            too_big = BadRequest(
                f"The message exceeds {limits.MAX_TEXT_FRAME} bytes. Send a shorter message.",
                code=ErrorCode.MESSAGE_TOO_BIG,
            )
            connection.push(codec.encode(wire.Failure(**too_big.as_dict())))
            connection.close(wire.CLOSE_TOO_BIG, too_big.message)
            self._inbox.clear()
            return
        try:
            message = data.decode() if text else data
        except UnicodeDecodeError:
            connection.close(CLOSE_INVALID, "text messages must be UTF-8")
            self._inbox.clear()
            return
        delivered = instance.deliver(connection, message)
        if not delivered.done():
            self._message_pending = True
            delivered.add_done_callback(self._on_delivered)

    def _on_delivered(self, outcome: asyncio.Future[object]) -> None:
        self._message_pending = False
        self._process_inbox()

    def _set_reading(self, enabled: bool) -> None:
        if enabled != self._reading:
            self._reading = enabled
            if enabled:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # --- Keep-alive and the end ---------------------------------------------------------------

    def check_keepalive(self, now: float) -> None:
        """Ping an idle client, and abort a connection that is dead or slow to close."""
        if self._close_deadline is not None:
            if now >= self._close_deadline:
                self._transport.abort()
        elif self._connection is not None and self._connection.closing is not None:
            self._start_close_timer()  # the client does not read up to the close frame
        elif not self._reading:
            self._last_received = now  # data from the client may wait in the kernel
        elif now - self._last_received >= IDLE_TIMEOUT:
            self._transport.abort()
        elif (
            now - self._last_received >= PING_AFTER
            and not self._ping_sent
            and self._ws.state is OPEN
        ):
            self._ping_sent = True
            if not self._write_paused:
                self._ws.send_ping(b"")
                self._write_pending()

    def shutdown(self) -> None:
        """Accept no more messages. Close the connection once all received messages are handled."""
        self._stopping = True
        if self._close_deadline is not None:
            self._close_deadline = min(
                self._close_deadline, self._sockets.clock.monotonic() + SHUTDOWN_CLOSE_TIMEOUT
            )
        self._process_inbox()

    def _end_connection(self) -> None:
        """Write pending frames, close the transport and detach the connection."""
        self._write_pending()
        self._start_close_timer()
        self._transport.close()
        self._disconnect()

    def _disconnect(self) -> None:
        """Detach the connection from the client.

        Messages received so far are still delivered, unless the server has closed the connection.
        """
        if not self._disconnected:
            self._disconnected = True
            if self._connection is not None:
                if self._connection.closing is not None:
                    self._inbox.clear()  # sent after the server's close frame
                self._connection.detach()
            self._process_inbox()

    def _start_close_timer(self) -> None:
        if self._close_deadline is None:
            timeout = SHUTDOWN_CLOSE_TIMEOUT if self._stopping else CLOSE_TIMEOUT
            self._close_deadline = self._sockets.clock.monotonic() + timeout

    def _write_pongs(self) -> None:
        pongs = self._ws.data_to_send()
        if pongs and self._write_paused:
            # The client does not read: the last pong answers all pings (RFC 6455, 5.5.3).
            self._queued_pong = pongs[-1]
        elif pongs:
            self._transport.write(b"".join(pongs))

    def _write_pending(self) -> None:
        self._transport.write(b"".join(self._ws.data_to_send()))


def _build_text_frame(message: bytes) -> bytes:
    """Build one unmasked text frame (RFC 6455, 5.2)."""
    size = len(message)
    if size < 126:
        return bytes((0x81, size)) + message
    if size < 65_536:
        return struct.pack(">BBH", 0x81, 126, size) + message
    return struct.pack(">BBQ", 0x81, 127, size) + message


def _invalid_handshake(problem: str) -> BadRequest:
    return BadRequest(
        f"The WebSocket handshake is invalid: {problem}. Use a WebSocket client.",
        code=ErrorCode.NOT_WEBSOCKET,
    )


def _build_rejection(error: PrepServerError) -> Response:
    body = encode_error(error)
    headers = Headers(
        {
            "Connection": "close",
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            "Sec-WebSocket-Version": "13",
        }
    )
    return Response(error.status, http.HTTPStatus(error.status).phrase, headers, body)
