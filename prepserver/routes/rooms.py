"""Rooms: `/parties/{party}/{room}`, a plain ASGI endpoint so that nothing stands between the
socket and the object.

Who calls and whose room it is are settled before the upgrade is accepted: a refusal is an HTTP
response to the handshake.
"""

import asyncio
import contextlib
import re
import uuid
from typing import Any
from urllib.parse import parse_qs

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from prepserver import protocol as wire
from prepserver.errors import BadRequest, Forbidden, NotFound, PrepServerError, Unauthorized
from prepserver.objects.cell import Cell
from prepserver.objects.connections import Close, Connection
from prepserver.routes.failures import error_body
from prepserver.routes.services import Services

__all__ = ["rooms"]

log = structlog.get_logger(__name__)

PARTIES = ("interview", "user-interviews")

MINE = "me"
"""A user's own list, for clients that do not know their id."""

_ADDRESS = re.compile(r"^/part(?:y|ies)/([^/]+)/([^/]+)/?$")
_CONNECTION_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


def rooms(services: Services) -> ASGIApp:
    """The endpoint."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.WEBSOCKET:
            upgrade = BadRequest("This address is a room: open a WebSocket.", code="not_websocket")
            await _refuse(send, upgrade, "http.response", status=426)
            return
        await receive()  # websocket.connect
        try:
            party, room, connection = await _admit(services, scope)
        except Exception as error:
            if not isinstance(error, PrepServerError):
                log.exception("room.not_opened")
                error = PrepServerError("The room could not be opened. Try again.", retryable=True)
            await _refuse(send, error, "websocket.http.response")
            await receive()  # until the client is gone: uvicorn counts on it
            return
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        await _serve(services, party, room, connection, receive, send)

    return endpoint


async def _admit(services: Services, scope: Any) -> tuple[str, str, Connection]:
    """Check token and ownership; the room's party and name, and the connection to be.

    Raises Unauthorized, Forbidden, NotFound.
    """
    address = _ADDRESS.match(scope["raw_path"].decode("ascii", "replace"))
    if address is None or address[1] not in PARTIES:
        raise NotFound(
            f"Rooms are at /parties/{{party}}/{{room}}; parties are {', '.join(PARTIES)}.",
            code="no_such_party",
        )
    party, room = address[1], address[2]
    query = parse_qs(scope["query_string"].decode("ascii", "replace"))
    token = query.get("token", [""])[0]
    if not token:
        # An access key is for headers: an address ends up in logs of proxies and in histories.
        raise Unauthorized("A room needs ?token=, from GET /auth/token.", code="no_credential")
    user = await services.user_of_token(token)
    if party == "user-interviews":
        if room not in (user, MINE):
            raise Forbidden("This list of interviews is not yours.", code="not_your_room")
        room = user
    else:
        await services.registry.call("user-interviews", user, "find", room)
    wanted = query.get("_pk", [""])[0]
    connection = Connection(wanted if _CONNECTION_ID.match(wanted) else uuid.uuid4().hex)
    quota = await services.limiter.quota(user)
    connection.state = {"user": user, "quota": quota}
    return party, room, connection


async def _serve(
    services: Services, party: str, room: str, connection: Connection, receive: Receive, send: Send
) -> None:
    cell = services.registry.connect(party, room, connection)
    writer = asyncio.create_task(_write(connection, send))
    try:
        await _read(cell, connection, receive)
    finally:
        cell.disconnect(connection)
        connection.close(1000)
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer


async def _read(cell: Cell, connection: Connection, receive: Receive) -> None:
    while True:
        event: Any = await receive()
        if event["type"] == "websocket.disconnect":
            return
        if connection.closing is not None:
            continue  # nothing that is said after the end can be answered any more
        message = event.get("text")
        if message is None:
            message = event.get("bytes") or b""
        if isinstance(message, str) and len(message.encode()) > wire.MAX_TEXT_FRAME:
            too_big = BadRequest(
                f"A text message is at most {wire.MAX_TEXT_FRAME} bytes.", code="message_too_big"
            )
            connection.push(wire.encode(wire.Failure(**too_big.as_dict())).decode())
            connection.close(wire.CLOSE_TOO_BIG, too_big.message)
            continue
        # One message of a client at a time: a flood waits in the client's own socket.
        with contextlib.suppress(PrepServerError):
            await cell.deliver(connection, message)


async def _write(connection: Connection, send: Send) -> None:
    """Drain the outbox into the socket; ends with the connection."""
    with contextlib.suppress(OSError):
        while True:
            frame = await connection.next_frame()
            if isinstance(frame, Close):
                await send({"type": "websocket.close", "code": frame.code, "reason": frame.reason})
                return
            await send({"type": "websocket.send", "text": frame, "bytes": None})


async def _refuse(
    send: Send, error: PrepServerError, kind: str, *, status: int | None = None
) -> None:
    headers = [(b"content-type", b"application/json")]
    start: Any = {"type": f"{kind}.start", "status": status or error.status, "headers": headers}
    body: Any = {"type": f"{kind}.body", "body": error_body(error), "more_body": False}
    await send(start)
    await send(body)
