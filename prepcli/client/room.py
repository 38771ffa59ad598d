"""Client for one room; it reconnects after each lost connection.

    async with Room(address) as room:
        await room.send(UserMessage(text="…"))
        async for event in room:
            state = apply(state, event)

One background task connects, reads and reconnects. The task handles acknowledgements before the
iterator yields them, so `Recording.stop` can be awaited in any task.
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
    ProxyRefused,
    RateLimited,
    ServerUnreachable,
    UsageError,
)
from prepserver.wire import protocol
from prepserver.wire.client_messages import ClientMessages
from prepserver.wire.codec import decode_server
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    Failure,
    ServerMessages,
)

__all__ = ["AddressProvider", "Room"]

AddressProvider = Callable[[bool], Awaitable[str]]
"""Function that is called before each connection attempt and returns the room's ws:// or wss:// URL
with a valid token.

The argument is True if the server refused the previous token, so that a new token must be
requested. The function may raise PrepError: after ServerUnreachable or RateLimited the room tries
again; any other error ends the room.
"""

CONNECT_TIMEOUT = 4.0
"""Maximum number of seconds that opening a connection may take, including the handshake."""

STABLE_SECONDS = 5.0
"""Seconds after which a connection counts as stable, so that its loss resets the backoff."""

MAX_EVENTS = 1024
"""Maximum number of events queued for a slow iterator. While the queue is full, the socket is not
read."""

_log = logging.getLogger(__name__)


class Room:
    """One room, which can be entered only once. Iterating yields `ConnectionChanged` and the
    server's messages.

    The iteration ends when the room is left. Iterating raises NotAuthorised if the server refuses a
    new token, NotFound if the user has no such room or the room was deleted, ServerUnreachable if
    the address is not that of a prep server or a proxy refuses the first connection, UsageError if
    the address is invalid, and the errors of the address provider that end the room. A lost
    connection raises nothing: the room reconnects.
    """

    def __init__(
        self,
        address: AddressProvider,
        *,
        on_frame: Callable[[str], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        """`on_frame` receives the server's text frames unparsed, including those of unknown
        types."""
        self._address = address
        self._on_frame = on_frame
        self._sleep = sleep
        self._monotonic = monotonic
        self._backoff = Backoff(rng or random.Random())
        self._connect_timeout = connect_timeout
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        """Event that is set when the outbox may have something to send."""
        self._events: asyncio.Queue[RoomEvent | None] = asyncio.Queue(MAX_EVENTS)
        """Events for the iterator; None ends the iteration."""
        self._error: BaseException | None = None
        self._left = False
        self._task: asyncio.Task[None] | None = None

    # --- Public interface ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a room can be entered only once: create a new Room")
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
        # End an iteration in another task. If the queue is full, that task is not waiting.
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
        """Queue a message. Messages are sent in order.

        A message that is not ephemeral gets an id if it has none, and is resent after each
        reconnect until the server answers. Raises QueueFull if the outbox is full, UsageError if
        the message exceeds the server's size limit, and the room's error if the room has ended.
        """
        self._require_open()
        self._outbox.queue_message(message, uuid.uuid4().hex)
        self._wake.set()

    def start_recording(self) -> Recording:
        """Queue and return a new recording. Recordings are sent one after another.

        Raises QueueFull if too many messages or too much audio is unacknowledged, and the room's
        error if the room has ended.
        """
        self._require_open()
        recording = Recording(uuid.uuid4().hex, self._wake.set)
        self._outbox.queue_recording(recording)
        self._wake.set()
        return recording

    @property
    def unacknowledged(self) -> int:
        """Number of messages and recordings that still have to be sent or acknowledged."""
        return len(self._outbox)

    def _require_open(self) -> None:
        if self._left or (self._task is not None and self._task.done()):
            raise self._error if isinstance(self._error, PrepError) else _room_left()

    # --- Background task ----------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._keep_connected()
        except PrepError as error:
            unauthorised = isinstance(error, NotAuthorised)
            status = ConnectionStatus.UNAUTHORIZED if unauthorised else ConnectionStatus.CLOSED
            self._error = error
            await self._events.put(ConnectionChanged(status))
        except Exception as error:
            self._error = error
        finally:
            reason = self._error if isinstance(self._error, PrepError) else _room_left()
            self._outbox.fail_all(reason)
            if self._error is not None:
                await self._events.put(None)

    async def _keep_connected(self) -> None:
        """Connect, serve the connection until it is lost, wait, and repeat. Raises PrepError when
        retrying cannot help."""
        token_refused = entered = False
        while True:
            await self._events.put(ConnectionChanged(ConnectionStatus.CONNECTING))
            try:
                async with await self._connect(renew=token_refused) as connection:
                    token_refused, entered = False, True
                    await self._serve(connection)
            except InvalidStatus as error:
                status = error.response.status_code
                if status == 401 and not token_refused:
                    token_refused = True
                    continue
                raise_if_permanent(error.response, entered=entered)
                token_refused = False
                _log.info("handshake refused with status %d", status)
            except ProxyRefused:
                if not entered:
                    raise
                _log.info("a proxy refused the connection to the room")
            except InvalidURI:
                raise UsageError("The server address is not valid. Check the address.") from None
            except (OSError, WebSocketException, ServerUnreachable, RateLimited) as error:
                _log.info("cannot connect to the room: %s", type(error).__name__)
            delay = self._backoff.next_delay()
            await self._events.put(ConnectionChanged(ConnectionStatus.OFFLINE, delay))
            await self._sleep(delay)

    async def _connect(self, *, renew: bool) -> ClientConnection:
        return await open_connection(await self._address(renew), self._connect_timeout)

    async def _serve(self, connection: ClientConnection) -> None:
        """Read and write until the connection is lost. Raises NotFound if the room was deleted."""
        connected_at = self._monotonic()
        self._outbox.start_connection()
        await self._events.put(ConnectionChanged(ConnectionStatus.ONLINE))
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(connection))
            code = await self._read(connection)
            writer.cancel()
        _log.info("connection lost: code %s", code)
        if self._monotonic() - connected_at >= STABLE_SECONDS:
            self._backoff.reset()
        match code:
            case protocol.CLOSE_RESTART:
                self._backoff.expect_restart()
            case protocol.CLOSE_DELETED:
                raise NotFound("The interview was deleted.")
            case protocol.CLOSE_TOO_BIG if id := self._outbox.drop_oldest_sent():
                # Resending it would close every later connection and hold up the messages behind.
                await self._events.put(_message_too_big(id))

    async def _write(self, connection: ClientConnection) -> None:
        try:
            while True:
                data = self._outbox.next_to_send()
                if data is None:
                    # There is no await between the check and `clear`, so no wake-up is lost.
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    await connection.send(data)
        except ConnectionClosed:
            return

    async def _read(self, connection: ClientConnection) -> int | None:
        """Read messages until the connection is lost. Return the close code if the server closed
        the connection, otherwise None."""
        try:
            while True:
                data = await connection.recv()
                if isinstance(data, bytes):
                    _log.warning("skipped a binary message from the server")
                    continue
                if self._on_frame is not None:
                    self._on_frame(data)
                message = _decode(data)
                if message is not None:
                    self._update_outbox(message)
                    await self._events.put(message)
        except ConnectionClosed as closed:
            # A close that this side began is echoed by the server and says nothing.
            close = closed.rcvd if closed.rcvd_then_sent is not False else None
            return None if close is None else close.code

    def _update_outbox(self, message: ServerMessages) -> None:
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


def _decode(data: str) -> ServerMessages | None:
    """Return the decoded message, or None if the message is invalid or of an unknown type."""
    try:
        message = decode_server(data)
    except msgspec.DecodeError as error:
        _log.warning("skipped an invalid message: %s", error)
        return None
    if message is None:
        _log.info("skipped a message of an unknown type")
    return message


def _message_too_big(id: str) -> Failure:
    return Failure(
        code=ErrorCode.MESSAGE_TOO_BIG,
        message="The message is too long for the server or for a proxy. Shorten your text.",
        id=id,
    )


def _room_left() -> PrepError:
    return ServerUnreachable(
        "The connection to the room was closed before the server had confirmed every message. "
        "Open the room again to see what was saved."
    )
