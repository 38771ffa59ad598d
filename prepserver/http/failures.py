"""Errors on their way out: one shape, whatever raised them."""

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from prepserver.errors import PrepServerError, RateLimited
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Error
from prepserver.wire.rest import ErrorBody

__all__ = ["error_body", "handlers"]

_CODES = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.REQUEST_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}
"""What the framework's refusals are called; any other is a bad request."""

log = structlog.get_logger(__name__)


def error_body(error: PrepServerError) -> bytes:
    return msgspec.json.encode(ErrorBody(Error(**error.as_dict())))


def _respond(status: int, error: Error, headers: dict[str, str] | None = None) -> Response[Any]:
    return Response(
        content=ErrorBody(error), status_code=status, media_type="application/json", headers=headers
    )


def _of_ours(request: Request[Any, Any, Any], error: PrepServerError) -> Response[Any]:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(error, RateLimited) and "reset" in error.details:
        headers["X-RateLimit-Reset"] = str(int(error.details["reset"]))
    return _respond(error.status, Error(**error.as_dict()), headers)


def _of_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """What the framework refuses: no route, no method, a body that does not fit."""
    code = _CODES.get(
        error.status_code, ErrorCode.INTERNAL if error.status_code >= 500 else ErrorCode.BAD_REQUEST
    )
    details: dict[str, Any] = {}
    if isinstance(error, ValidationException) and error.extra:
        details = {"problems": error.extra}
    return _respond(error.status_code, Error(code=code, message=error.detail, details=details))


def _of_nobody(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    log.exception("request.failed", path=request.url.path)
    ours = PrepServerError("The server could not do this. Try again.", retryable=True)
    return _respond(500, Error(**ours.as_dict()))


def _of_nesting(request: Request[Any, Any, Any], error: RecursionError) -> Response[Any]:
    return _respond(
        400, Error(code=ErrorCode.BAD_REQUEST, message="The body is nested too deeply.")
    )


handlers: Any = {
    PrepServerError: _of_ours,
    HTTPException: _of_litestar,
    RecursionError: _of_nesting,
    Exception: _of_nobody,
}
