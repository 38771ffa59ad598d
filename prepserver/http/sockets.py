"""WebSockets on the wire: handshake, messages, flow control, keep-alive, close.

uvicorn hands every upgrade to a `RoomSocket`, which lets the client in or refuses it, and from then
on stands alone between the transport and the room: what an object sends is written by the call that
sends it, and an idle client costs no task, no queue and no timer of its own.
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
from prepserver.http.failures import error_body
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.wire import codec, limits
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Admit", "RoomSocket", "Sockets"]

TICK = 1.0
"""Seconds between looks at the sockets."""
PING_AFTER = 20.0
"""Seconds without a sign of life after which a client is asked for one."""
DEAD_AFTER = 35.0
"""Seconds without a sign of life after which a client is gone; below 40 on a busy machine too."""
CLOSE_SECONDS = 10.0
"""For a client to answer a close frame, and to read what was sent before it."""
STOP_SECONDS = 3.0
"""The same when the server is stopping."""

MAX_MESSAGE = 2 * limits.MAX_BINARY_FRAME
"""Bytes: a little over what is allowed, so that a message just over it gets its answer."""

CLOSE_INVALID = 1007

READ_SIZE = 32 * 1024
"""Bytes read at once: the most that a client can make the server hold beyond one message."""

_buffer = memoryview(bytearray(READ_SIZE))
"""Where all sockets read: what is in it is taken out before the next one reads."""

Admit = Callable[[str], Awaitable[tuple[Connection, Instance]]]
"""Checks who asks for an address and connects them to its room; raises PrepServerError."""

log = structlog.get_logger(__name__)


class Sockets:
    """All open sockets, and the keep-alive that they share."""

    def __init__(self, admit: Admit, clock: Clock) -> None:
        self.admit = admit
        self.clock = clock
        self.open: set[RoomSocket] = set()

    def protocol(
        self, config: object, server_state: ServerState, app_state: object
    ) -> "RoomSocket":
        """What uvicorn calls at an upgrade."""
        return RoomSocket(self, server_state)

    async def watch(self) -> None:
        """Ask silent clients for a sign of life and abort the dead ones, until cancelled."""
        while True:
            await self.clock.sleep(TICK)
            now = self.clock.monotonic()
            for socket in list(self.open):
                socket.check(now)


class RoomSocket(asyncio.BufferedProtocol):
    """One client's socket, from the handshake to its end."""

    __slots__ = (
        "_busy",
        "_cell",
        "_connection",
        "_deadline",
        "_full",
        "_gone",
        "_heard",
        "_inbox",
        "_parts",
        "_pinged",
        "_pong",
        "_reading",
        "_sockets",
        "_state",
        "_stopping",
        "_text",
        "_transport",
        "_ws",
    )

    def __init__(self, sockets: Sockets, state: ServerState) -> None:
        self._sockets = sockets
        self._state = state
        self._ws = ServerProtocol(max_size=MAX_MESSAGE)
        self._transport: asyncio.Transport
        self._connection: Connection | None = None
        self._cell: Instance | None = None
        self._inbox: deque[tuple[bool, bytes]] = deque()
        self._text = False
        self._parts: list[bytes] = []
        self._pong = b""
        # The handshake counts as a message that the room is busy with.
        self._busy = True
        self._reading = True
        self._full = self._gone = self._stopping = self._pinged = False
        self._heard = sockets.clock.monotonic()
        self._deadline: float | None = None

    # --- The transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # What the kernel does not take at once waits with the connection, where it is shared with
        # other clients and bounded, and not as a copy in the transport.
        transport.set_write_buffer_limits(high=0)
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._sockets.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._sockets.open.discard(self)
        self._leave()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        self._heard = self._sockets.clock.monotonic()
        self._pinged = False
        self._ws.receive_data(data)  # type: ignore[arg-type]
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._answer_handshake(event)
            elif isinstance(event, Frame):
                self._take(event)
        if self._ws.close_rcvd is None and self._ws.parser_exc is None:
            self._send_pongs()
            self._pump()
        else:
            # The last word is the client's, or it does not speak the protocol.
            self._finish()

    def eof_received(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = self._pinged = False
        self._heard = self._sockets.clock.monotonic()  # it has read what was sent
        if self._pong:
            self._transport.write(self._pong)
            self._pong = b""
        if self._connection is not None and not self._full:
            self._connection.drain()

    # --- What the connection writes -----------------------------------------------------------

    def write(self, message: bytes) -> bool:
        self._transport.write(_text_frame(message))
        return not self._full

    def close(self, code: int, reason: str) -> None:
        if self._ws.state is OPEN:
            self._ws.send_close(code, reason)
            self._flush()
        self._limit_close()
        # Nothing that is said after the end can be answered any more.
        self._inbox.clear()
        self._read(True)

    # --- The handshake ------------------------------------------------------------------------

    def _answer_handshake(self, request: Request) -> None:
        response = self._ws.accept(request)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse(response)
            return
        task = asyncio.get_running_loop().create_task(self._enter(request.path, response))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _enter(self, target: str, response: Response) -> None:
        try:
            self._connection, self._cell = await self._sockets.admit(target)
        except Exception as error:
            if not isinstance(error, PrepServerError):
                log.exception("room.not_opened")
                error = PrepServerError("The room could not be opened. Try again.", retryable=True)
            self._refuse(_refusal(error))
            return
        self._busy = False
        if self._gone:
            self._connection.detach()
        else:
            self._ws.send_response(response)
            self._flush()
            self._connection.attach(self)
        self._pump()

    def _refuse(self, response: Response) -> None:
        if not self._gone:
            self._ws.send_response(response)
            self._finish()

    # --- What the client sends ----------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        """Put a message into the inbox when it is whole; pings are answered by the protocol."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            self._inbox.append((self._text, b"".join(self._parts)))
            self._parts.clear()

    def _pump(self) -> None:
        """Give the room one message at a time: a flood waits in the client's own socket."""
        connection, cell = self._connection, self._cell
        if connection is None or cell is None:
            self._read(not self._inbox)
            return
        while self._inbox and not self._busy:
            if connection.closing is not None and not self._gone:
                self._inbox.clear()  # it could not hear the answer any more
            else:
                self._deliver(cell, connection, *self._inbox.popleft())
        if self._busy:
            self._read(not self._inbox and not self._stopping)
        elif self._gone:
            self._connection = self._cell = None
            cell.disconnect(connection)
        elif self._stopping:
            connection.close(wire.CLOSE_RESTART, "the server is restarting")
        else:
            self._read(True)

    def _deliver(self, cell: Instance, connection: Connection, text: bool, data: bytes) -> None:
        """To the room. Behind one that ends the connection nothing counts, also if the client has
        left meanwhile."""
        if text and len(data) > limits.MAX_TEXT_FRAME:
            too_big = BadRequest(
                f"A text message is at most {limits.MAX_TEXT_FRAME} bytes.",
                code=ErrorCode.MESSAGE_TOO_BIG,
            )
            connection.push(codec.encode(wire.Failure(**too_big.as_dict())))
            connection.close(wire.CLOSE_TOO_BIG, too_big.message)
            self._inbox.clear()
            return
        try:
            message = data.decode() if text else data
        except UnicodeDecodeError:
            connection.close(CLOSE_INVALID, "a text message is UTF-8")
            self._inbox.clear()
            return
        delivered = cell.deliver(connection, message)
        if not delivered.done():
            self._busy = True
            delivered.add_done_callback(self._delivered)

    def _delivered(self, outcome: asyncio.Future[object]) -> None:
        self._busy = False
        self._pump()

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # --- Keep-alive and the end ---------------------------------------------------------------

    def check(self, now: float) -> None:
        """Ask for a sign of life when there was none for long, and abort what is dead."""
        if self._deadline is not None:
            if now >= self._deadline:
                self._transport.abort()
        elif self._connection is not None and self._connection.closing is not None:
            self._limit_close()  # it does not even read what comes before the close frame
        elif not self._reading:
            self._heard = now  # it may have said something that nobody has read yet
        elif now - self._heard >= DEAD_AFTER:
            self._transport.abort()
        elif now - self._heard >= PING_AFTER and not self._pinged and self._ws.state is OPEN:
            self._pinged = True
            if not self._full:
                self._ws.send_ping(b"")
                self._flush()

    def shutdown(self) -> None:
        """The server stops: no more messages, and the close when the last one is answered."""
        self._stopping = True
        if self._deadline is not None:
            self._deadline = min(self._deadline, self._sockets.clock.monotonic() + STOP_SECONDS)
        self._pump()

    def _finish(self) -> None:
        """Write what is due and end the connection."""
        self._flush()
        self._limit_close()
        self._transport.close()
        self._leave()

    def _leave(self) -> None:
        """The client is gone; what it said before is still delivered."""
        if not self._gone:
            self._gone = True
            if self._connection is not None:
                if self._connection.closing is not None:
                    self._inbox.clear()  # said after the server's last word
                self._connection.detach()
            self._pump()

    def _limit_close(self) -> None:
        if self._deadline is None:
            patience = STOP_SECONDS if self._stopping else CLOSE_SECONDS
            self._deadline = self._sockets.clock.monotonic() + patience

    def _send_pongs(self) -> None:
        pongs = self._ws.data_to_send()
        if pongs and self._full:
            # To a client that does not read: the last one answers them all (RFC 6455, 5.5.3).
            self._pong = pongs[-1]
        elif pongs:
            self._transport.write(b"".join(pongs))

    def _flush(self) -> None:
        self._transport.write(b"".join(self._ws.data_to_send()))


def _text_frame(message: bytes) -> bytes:
    """One whole text frame as a server sends it, unmasked (RFC 6455, 5.2)."""
    size = len(message)
    if size < 126:
        return bytes((0x81, size)) + message
    if size < 65_536:
        return struct.pack(">BBH", 0x81, 126, size) + message
    return struct.pack(">BBQ", 0x81, 127, size) + message


def _refusal(error: PrepServerError) -> Response:
    body = error_body(error)
    headers = Headers(
        {
            "Connection": "close",
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
        }
    )
    return Response(error.status, http.HTTPStatus(error.status).phrase, headers, body)
