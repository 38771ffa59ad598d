"""Conversion of exceptions to HTTP error responses in one JSON format."""

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from prepserver.errors import PrepServerError, RateLimited
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Error
from prepserver.wire.rest import ErrorBody

__all__ = ["FRAMEWORK_CODES", "encode_error", "exception_handlers"]

FRAMEWORK_CODES = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.REQUEST_TOO_LARGE,
}
"""Error codes by HTTP status, for errors that Litestar itself raises. Any other 4xx status has the
code `bad_request`, and any 5xx status has the code `internal`."""

log = structlog.get_logger(__name__)


def encode_error(error: PrepServerError) -> bytes:
    """Encode an error as the JSON body of a response."""
    return msgspec.json.encode(ErrorBody(Error(**error.as_dict())))


def _response(
    status: int, error: Error, headers: dict[str, str] | None = None
) -> Response[ErrorBody]:
    return Response(
        content=ErrorBody(error), status_code=status, media_type="application/json", headers=headers
    )


def _handle_server_error(
    request: Request[Any, Any, Any], error: PrepServerError
) -> Response[ErrorBody]:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(error, RateLimited) and "reset" in error.details:
        headers["X-RateLimit-Reset"] = str(int(error.details["reset"]))
    return _response(error.status, Error(**error.as_dict()), headers)


def _handle_framework_error(
    request: Request[Any, Any, Any], error: HTTPException
) -> Response[ErrorBody]:
    """Convert an error that Litestar raises to a response, for example the error for an unknown
    route, an unknown method or an invalid body."""
    code = FRAMEWORK_CODES.get(
        error.status_code, ErrorCode.INTERNAL if error.status_code >= 500 else ErrorCode.BAD_REQUEST
    )
    details: dict[str, Any] = {}
    if isinstance(error, ValidationException) and error.extra:
        details = {"problems": error.extra}
    return _response(error.status_code, Error(code=code, message=error.detail, details=details))


def _handle_unexpected_error(
    request: Request[Any, Any, Any], error: Exception
) -> Response[ErrorBody]:
    log.exception("request.failed", path=request.url.path)
    internal = PrepServerError("The server failed unexpectedly. Try again.", retryable=True)
    return _response(500, Error(**internal.as_dict()))


def _handle_nesting_error(
    request: Request[Any, Any, Any], error: RecursionError
) -> Response[ErrorBody]:
    message = "The request body is nested too deeply. Send a body with fewer levels."
    return _response(400, Error(code=ErrorCode.BAD_REQUEST, message=message))


def _handle_encoding_error(
    request: Request[Any, Any, Any], error: UnicodeDecodeError
) -> Response[ErrorBody]:
    message = "The request is not valid UTF-8. Encode it as UTF-8."
    return _response(400, Error(code=ErrorCode.BAD_REQUEST, message=message))


exception_handlers: Any = {
    PrepServerError: _handle_server_error,
    HTTPException: _handle_framework_error,
    RecursionError: _handle_nesting_error,
    UnicodeDecodeError: _handle_encoding_error,
    Exception: _handle_unexpected_error,
}
