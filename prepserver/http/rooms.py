"""Rooms: `/parties/{party}/{room}`, and who may enter which.

Who calls and whose room it is are settled before the upgrade is accepted: a refusal is an HTTP
response to the handshake.
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

__all__ = ["Rooms", "not_a_socket"]

PARTIES = (InterviewStub.kind, UserInterviewsStub.kind)

MINE = "me"
"""A user's own list, for clients that do not know their id."""

_ADDRESS = re.compile(r"^/part(?:y|ies)/([^/]+)/([^/]+)/?$")
_CONNECTION_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class UpgradeRequired(BadRequest):
    status: ClassVar[int] = 426


@route(
    [f"/{root}{rest}" for root in ("parties", "party") for rest in ("", "/{path:path}")],
    http_method=["GET", "POST"],
    include_in_schema=False,
    status_code=426,
    sync_to_thread=False,
)
def not_a_socket() -> None:
    raise UpgradeRequired("This address is a room: open a WebSocket.", code=ErrorCode.NOT_WEBSOCKET)


class Rooms:
    """Lets clients into the rooms that are theirs."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def admit(self, target: str) -> tuple[Connection, Instance]:
        """Check token and ownership of a request's target, and connect the client to the room.

        Raises Unauthorized, Forbidden, NotFound.
        """
        services = self._services
        path, _, query_string = target.partition("?")
        address = _ADDRESS.match(path)
        if address is None or address[1] not in PARTIES:
            raise NotFound(
                f"Rooms are at /parties/{{party}}/{{room}}; parties are {', '.join(PARTIES)}.",
                code=ErrorCode.NO_SUCH_PARTY,
            )
        party, room = address[1], address[2]
        query = parse_qs(query_string)
        token = query.get("token", [""])[0]
        if not token:
            # An access key is for headers: an address ends up in logs of proxies and in histories.
            raise Unauthorized(
                "A room needs ?token=, from GET /auth/token.", code=ErrorCode.NO_CREDENTIAL
            )
        user = await services.user_of_token(token)
        if party == UserInterviewsStub.kind:
            if room not in (user, MINE):
                raise Forbidden(
                    "This list of interviews is not yours.", code=ErrorCode.NOT_YOUR_ROOM
                )
            room = user
        else:
            await services.registry.call(UserInterviewsStub(user).find(room))
        wanted = query.get("_pk", [""])[0]
        connection = Connection(wanted if _CONNECTION_ID.match(wanted) else uuid.uuid4().hex)
        quota = await services.limiter.quota(user)
        connection.state = {"user": user, "quota": quota}
        return connection, services.registry.connect(party, room, connection)
