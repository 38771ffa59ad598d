"""Who is calling, from the `Authorization` header."""

from typing import Any

from litestar import Request

from prepserver.accounts.users import KEY_PREFIX
from prepserver.errors import Unauthorized
from prepserver.http.services import Services
from prepserver.wire.error_codes import ErrorCode

__all__ = ["access_key", "administrator", "bearer", "caller"]


def bearer(request: Request[Any, Any, Any]) -> str:
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise Unauthorized(
            "Say who you are: send `Authorization: Bearer ACCESS_KEY`.",
            code=ErrorCode.NO_CREDENTIAL,
        )
    return credential.strip()


async def caller(request: Request[Any, Any, Any], services: Services) -> str:
    """Dependency: the user's id, by access key or token. Raises Unauthorized."""
    return await services.user_of(bearer(request))


async def administrator(request: Request[Any, Any, Any], services: Services) -> str:
    """Dependency: the user's id, who is an administrator. Raises Unauthorized, Forbidden."""
    return await services.admin_of(bearer(request))


async def access_key(request: Request[Any, Any, Any], services: Services) -> str:
    """Dependency: the user's id, by access key alone: a token cannot make tokens."""
    credential = bearer(request)
    if not credential.startswith(f"{KEY_PREFIX}_"):
        raise Unauthorized("Tokens are made from an access key.", code=ErrorCode.BAD_ACCESS_KEY)
    return await services.users.authenticate(credential)
