"""Route dependencies that authenticate the caller by the `Authorization` header."""

from typing import Any

from litestar import Request

from prepserver.errors import Unauthorized
from prepserver.http.services import Services
from prepserver.wire.error_codes import ErrorCode

__all__ = ["authenticate", "authenticate_administrator", "bearer_credential"]


def bearer_credential(request: Request[Any, Any, Any]) -> str:
    """Return the access key or token in the `Authorization` header.

    Raises Unauthorized if the header is missing or contains no bearer credential.
    """
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise Unauthorized(
            "Authentication required: send the header `Authorization: Bearer ACCESS_KEY`.",
            code=ErrorCode.NO_CREDENTIAL,
        )
    return credential.strip()


async def authenticate(request: Request[Any, Any, Any], services: Services) -> str:
    """Return the id of the calling user. Raises Unauthorized if the credential is missing or
    invalid."""
    return await services.authenticator.authenticate(bearer_credential(request))


async def authenticate_administrator(request: Request[Any, Any, Any], services: Services) -> str:
    """Return the id of the calling administrator.

    Raises Unauthorized if the credential is missing or invalid, and Forbidden if the user is not an
    administrator.
    """
    return await services.authenticator.authenticate_administrator(bearer_credential(request))
