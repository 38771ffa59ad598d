"""The error tree: what can go wrong, as plain data that crosses every boundary.

    PrepServerError            500  internal
    ├── BadRequest             400  bad_request
    ├── Unauthorized           401  unauthorized
    ├── Forbidden              403  forbidden
    ├── NotFound               404  not_found
    ├── Conflict               409  conflict
    ├── InterviewError         422  interview
    ├── RateLimited            429  rate_limited
    ├── InferenceError         503  inference
    └── StorageError           503  storage

Each carries a stable `code` (a subclass gives the default, a raise may name a finer one), a
sentence a person can act on, and whether trying the same again can help.
"""

from typing import Any, ClassVar

from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "BadRequest",
    "Conflict",
    "Forbidden",
    "InferenceError",
    "InterviewError",
    "NotFound",
    "PrepServerError",
    "RateLimited",
    "StorageError",
    "Unauthorized",
]


class PrepServerError(Exception):
    """Base of every error that the server shows to somebody."""

    default_code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    status: ClassVar[int] = 500
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode | None = None,
        retryable: bool | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retryable = self.default_retryable if retryable is None else retryable
        self.details = details or {}

    def as_dict(self) -> dict[str, Any]:
        """The one shape on the wire: `{"code", "message", "retryable", "details"}`."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "details": self.details,
        }


class BadRequest(PrepServerError):
    """What was sent cannot be understood or is out of bounds."""

    default_code = ErrorCode.BAD_REQUEST
    status = 400


class Unauthorized(PrepServerError):
    """Nobody, or nobody known, is calling."""

    default_code = ErrorCode.UNAUTHORIZED
    status = 401


class Forbidden(PrepServerError):
    """The caller is known and may not do this."""

    default_code = ErrorCode.FORBIDDEN
    status = 403


class NotFound(PrepServerError):
    """There is no such thing, or it is somebody else's: the caller cannot tell which."""

    default_code = ErrorCode.NOT_FOUND
    status = 404


class Conflict(PrepServerError):
    """The request is sound but the state of things does not allow it."""

    default_code = ErrorCode.CONFLICT
    status = 409


class InterviewError(PrepServerError):
    """The interview cannot take this step."""

    default_code = ErrorCode.INTERVIEW
    status = 422


class RateLimited(PrepServerError):
    """The user's allowance of model requests is used up; `details.reset` says until when."""

    default_code = ErrorCode.RATE_LIMITED
    status = 429
    default_retryable = True


class InferenceError(PrepServerError):
    """A model could not answer."""

    default_code = ErrorCode.INFERENCE
    status = 503
    default_retryable = True


class StorageError(PrepServerError):
    """The disk refused; what waited for the write was discarded."""

    default_code = ErrorCode.STORAGE
    status = 503
    default_retryable = True
