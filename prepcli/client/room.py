"""A room of the server, followed across lost connections.

    async with Room(address) as room:
        await room.send(UserMessage(text="…"))
        async for event in room:
            state = apply(state, event)

One background task connects, reads, and connects again; it sees acknowledgements before the
iterator does, so `Recording.stop` may be awaited by whoever likes.
"""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from prepcli.client.backoff import Backoff
from prepcli.client.handshake import open_connection, raise_if_permanent
from prepcli.client.outbox import Outbox
from prepcli.client.recording import Recording
from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent
from prepcli.errors import (
    NotAuthorised,
    NotFound,
    PrepError,
    RateLimited,
    ServerUnreachable,
    UsageError,
)
from prepserver.wire import protocol
from prepserver.wire.codec import decode_server
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    ClientMessages,
    Failure,
    ServerMessages,
)

__all__ = ["Address", "Room"]

Address = Callable[[bool], Awaitable[str]]
"""Computes the room's address anew for every attempt: a ws:// or wss:// URL with a fresh token.

The argument says that the token of the last attempt was refused: get a new one. Raises PrepError;
ServerUnreachable and RateLimited are tried again, everything else ends the room.
"""

CONNECT_TIMEOUT = 4.0
"""Seconds to open a connection, the handshake included."""

STABLE_SECONDS = 5.0
"""A connection that lived so long was good: the next wait is short again."""

MAX_EVENTS = 1024
"""Events that wait for a slow reader; then the server's are left in the socket."""

_log = logging.getLogger(__name__)


class Room:
    """One room. Enter it once; iterate it for `ConnectionChanged` and the server's messages.

    The iteration ends when the room is left. It raises NotAuthorised when the server does not
    accept a fresh token, NotFound when there is no such room for this user or no longer, or what
    `address` raised; never because a connection was lost.
    """

    def __init__(
        self,
        address: Address,
        *,
        on_frame: Callable[[str], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        """`on_frame` is given every text frame of the server as it came, unknown ones too."""
        self._address = address
        self._on_frame = on_frame
        self._sleep = sleep
        self._monotonic = monotonic
        self._backoff = Backoff(rng or random.Random())
        self._connect_timeout = connect_timeout
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._events: asyncio.Queue[RoomEvent | None] = asyncio.Queue(MAX_EVENTS)
        self._error: BaseException | None = None
        self._left = False
        self._task: asyncio.Task[None] | None = None

    # --- For whoever is in the room -----------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a room is entered once: make a new Room")
        self._task = asyncio.create_task(self._run(), name="room")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        # Whoever iterates in another task is let go; with a full queue nobody waits.
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RoomEvent:
        if self._left:
            raise StopAsyncIteration
        event = await self._events.get()
        if event is not None:
            return event
        self._left = True
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def send(self, message: ClientMessages) -> None:
        """Queue a message; a message that can have an id and has none gets one.

        It leaves at once or after the reconnect, in order, and is repeated until the server has
        answered it with `accepted` or `error`. Raises QueueFull when too much waits already,
        UsageError when the message is too long for the server, what ended the room when it has
        ended.
        """
        self._require_open()
        self._outbox.queue_message(message, uuid.uuid4().hex)
        self._wake.set()

    def start_recording(self) -> Recording:
        """Begin a spoken answer: `feed` it, then `stop` or `cancel` it. One after the other."""
        self._require_open()
        recording = Recording(uuid.uuid4().hex, self._wake.set)
        self._outbox.queue_recording(recording)
        self._wake.set()
        return recording

    @property
    def unacknowledged(self) -> int:
        """Messages and recordings that the server has not acknowledged."""
        return len(self._outbox)

    def _require_open(self) -> None:
        if self._left or (self._task is not None and self._task.done()):
            raise self._error if isinstance(self._error, PrepError) else _left_room()

    # --- The background task ------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._follow()
        except PrepError as error:
            refused = isinstance(error, NotAuthorised)
            status = ConnectionStatus.UNAUTHORIZED if refused else ConnectionStatus.CLOSED
            self._error = error
            await self._events.put(ConnectionChanged(status))
        except Exception as error:
            self._error = error
        finally:
            waiting = self._error if isinstance(self._error, PrepError) else _left_room()
            self._outbox.fail_all(waiting)
            if self._error is not None:
                await self._events.put(None)

    async def _follow(self) -> None:
        """Connect, read until the connection is lost, wait, and again. Raises PrepError."""
        refused = known = False
        while True:
            await self._events.put(ConnectionChanged(ConnectionStatus.CONNECTING))
            try:
                async with await self._connect(refused) as connection:
                    refused, known = False, True
                    await self._live(connection)
            except InvalidStatus as error:
                status = error.response.status_code
                if status == 401 and not refused:
                    refused = True
                    continue
                raise_if_permanent(error.response, known=known)
                refused = False
                _log.info("the room refused the connection with %d", status)
            except InvalidURI:
                raise UsageError("The server's address is not one of a server.") from None
            except (OSError, WebSocketException, ServerUnreachable, RateLimited) as error:
                _log.info("the room cannot be reached: %s", type(error).__name__)
            delay = self._backoff.next()
            await self._events.put(ConnectionChanged(ConnectionStatus.OFFLINE, delay))
            await self._sleep(delay)

    async def _connect(self, renew: bool) -> ClientConnection:
        return await open_connection(await self._address(renew), self._connect_timeout)

    async def _live(self, connection: ClientConnection) -> None:
        """Read and write until the connection is lost. Raises NotFound when the room is deleted."""
        began = self._monotonic()
        self._outbox.start_connection()
        await self._events.put(ConnectionChanged(ConnectionStatus.ONLINE))
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(self._send_all(connection))
            code = await self._read_all(connection)
            sender.cancel()
        _log.info("the connection was lost: code %s", code)
        if self._monotonic() - began >= STABLE_SECONDS:
            self._backoff.reset()
        match code:
            case protocol.CLOSE_RESTART:
                self._backoff.expect_restart()
            case protocol.CLOSE_DELETED:
                raise NotFound("The interview has been deleted.")
            case protocol.CLOSE_TOO_BIG if id := self._outbox.drop_oldest_sent():
                # It would be refused on every connection to come, and what is behind it with it.
                await self._events.put(_too_big(id))

    async def _send_all(self, connection: ClientConnection) -> None:
        try:
            while True:
                data = self._outbox.next_to_send()
                if data is None:
                    # Nothing is awaited between the two, so no wake-up is lost.
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    await connection.send(data)
        except ConnectionClosed:
            return

    async def _read_all(self, connection: ClientConnection) -> int | None:
        """Read until the connection is lost; the close code, if the server closed it."""
        try:
            while True:
                data = await connection.recv()
                if isinstance(data, bytes):
                    _log.warning("skipped a binary message of the server")
                    continue
                if self._on_frame is not None:
                    self._on_frame(data)
                message = _decoded(data)
                if message is not None:
                    self._take(message)
                    await self._events.put(message)
        except ConnectionClosed as closed:
            # What this side closed first comes back as if it were the server's.
            close = closed.rcvd if closed.rcvd_then_sent is not False else None
            return None if close is None else close.code

    def _take(self, message: ServerMessages) -> None:
        match message:
            case Accepted(id=id):
                self._outbox.mark_accepted(id)
            case AudioAck(id=id, frame=frame):
                self._outbox.acknowledge_frames(id, frame)
            case Failure(id=id) if id:
                self._outbox.mark_refused(message)
            case _:
                return
        self._wake.set()


def _decoded(data: str) -> ServerMessages | None:
    """None for what a newer or a broken server may send: it is skipped."""
    try:
        message = decode_server(data)
    except msgspec.DecodeError as error:
        _log.warning("skipped a message that cannot be understood: %s", error)
        return None
    if message is None:
        _log.info("skipped a message of a kind that this version does not know")
    return message


def _too_big(id: str) -> Failure:
    return Failure(
        code=ErrorCode.MESSAGE_TOO_BIG,
        message="This was too long for the server, or for something on the way. Shorten it.",
        id=id,
    )


def _left_room() -> PrepError:
    return ServerUnreachable("The room was left before everything had reached the server.")
