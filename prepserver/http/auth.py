"""Tokens for the rooms."""

from litestar import get
from litestar.di import Provide

from prepserver.http.caller import access_key
from prepserver.http.services import Services
from prepserver.wire.rest import RoomToken

__all__ = ["token"]


@get(
    "/auth/token",
    dependencies={"user": Provide(access_key)},
    summary="A token of five minutes for a room's address",
    sync_to_thread=False,
)
def token(services: Services, user: str) -> RoomToken:
    return services.tokens.issue(user)
