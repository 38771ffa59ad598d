"""Connections to rooms at `/parties/{party}/{room}`.

Authentication and authorisation precede the upgrade, so a refused handshake receives an HTTP error
response.
"""

import re
import uuid
from typing import ClassVar
from urllib.parse import parse_qs

from litestar import route

from prepserver.errors import BadRequest, Forbidden, NotFound, Unauthorized
from prepserver.http.services import Services
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Rooms", "reject_plain_http"]

PARTIES = (InterviewStub.kind, UserInterviewsStub.kind)
"""Kinds of rooms, as they appear in addresses."""

OWN_ROOM = "me"
"""Name of the room with the caller's own list of interviews, for clients that do not know the
user's id."""

_ADDRESS = re.compile(r"/part(?:y|ies)/([^/]+)/([^/]+)/?")
_CONNECTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UpgradeRequired(BadRequest):
    """The request for a room is not a WebSocket handshake."""

    status: ClassVar[int] = 426


@route(
    [f"/{root}{rest}" for root in ("parties", "party") for rest in ("", "/{path:path}")],
    http_method=["GET", "POST"],
    include_in_schema=False,
    status_code=426,
    sync_to_thread=False,
)
def reject_plain_http() -> None:
    raise UpgradeRequired(
        "The address of a room accepts only WebSocket connections. Use a WebSocket client.",
        code=ErrorCode.NOT_WEBSOCKET,
    )


class Rooms:
    """Entrance to the rooms. Each client is authenticated and authorised before it is connected to
    a room."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def open_connection(self, target: str) -> tuple[Connection, Instance]:
        """Authenticate and authorise the client, then connect it to the room.

        `target` is the request target: a path with the query parameters `token` and, optionally,
        `_pk`, the connection's id. Return the connection and the room's instance. Raises
        Unauthorized, Forbidden or NotFound.
        """
        services = self._services
        path, _, query_string = target.partition("?")
        address = _ADDRESS.fullmatch(path)
        if address is None or address[1] not in PARTIES:
            raise NotFound(
                f"There is no room at {path}. The address of a room is /parties/PARTY/ROOM, where "
                f"PARTY is {' or '.join(PARTIES)}.",
                code=ErrorCode.NO_SUCH_PARTY,
            )
        party, room = address[1], address[2]
        query = parse_qs(query_string)
        token = query.get("token", [""])[0]
        if not token:
            # An access key is not accepted here: addresses end up in the logs of proxies.
            raise Unauthorized(
                "Authentication required: add ?token=TOKEN to the address. GET /auth/token issues "
                "tokens.",
                code=ErrorCode.NO_CREDENTIAL,
            )
        user = await services.authenticator.authenticate_token(token)
        if party == UserInterviewsStub.kind:
            if room not in (user, OWN_ROOM):
                raise Forbidden(
                    "This list of interviews belongs to another user. Connect to the room "
                    f"`{OWN_ROOM}` for your own list.",
                    code=ErrorCode.NOT_YOUR_ROOM,
                )
            room = user
        else:
            await services.registry.call(UserInterviewsStub(user).find(room))
        requested = query.get("_pk", [""])[0]
        connection = Connection(
            requested if _CONNECTION_ID.fullmatch(requested) else uuid.uuid4().hex
        )
        quota = await services.rate_limiter.quota(user)
        connection.state = {"user": user, "quota": quota}
        return connection, services.registry.connect(party, room, connection)
