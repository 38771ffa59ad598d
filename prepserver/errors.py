"""Tree of the errors that the server reports to its callers.

    PrepServerError            500  internal
    ├── BadRequest             400  bad_request
    ├── Unauthorized           401
    ├── Forbidden              403
    ├── NotFound               404  not_found
    │   └── ModelNotFound      404  model_not_found
    ├── Conflict               409
    ├── InterviewError         422
    ├── RateLimited            429  rate_limited
    ├── InferenceError         503  inference
    ├── StorageError           503  storage
    └── ModelError             500

Each error carries a stable `code`, a sentence that a person can act on, and a flag that tells a
client whether trying again may help. A class without a default code in this table requires a code
where the error is raised.
"""

from typing import Any, ClassVar

from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "BadRequest",
    "Conflict",
    "Forbidden",
    "InferenceError",
    "InterviewError",
    "ModelError",
    "ModelNotFound",
    "NotFound",
    "PrepServerError",
    "RateLimited",
    "StorageError",
    "Unauthorized",
]


class PrepServerError(Exception):
    """The server failed unexpectedly. Base class of all errors that reach a caller."""

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
        """Return the error's fields in the form in which they are sent to clients."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "details": self.details,
        }


class _CodedError(PrepServerError):
    """Base class of errors without a default code."""

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode,
        retryable: bool | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, retryable=retryable, details=details)


class BadRequest(PrepServerError):
    """The request is malformed or exceeds a limit."""

    default_code = ErrorCode.BAD_REQUEST
    status = 400


class Unauthorized(_CodedError):
    """The request carries no valid credential."""

    status = 401


class Forbidden(_CodedError):
    """The caller is authenticated but lacks the permission for the request."""

    status = 403


class NotFound(PrepServerError):
    """The resource does not exist or belongs to another user; the caller cannot tell which."""

    default_code = ErrorCode.NOT_FOUND
    status = 404


class ModelNotFound(NotFound):
    """The model is unknown or not installed."""

    default_code = ErrorCode.MODEL_NOT_FOUND


class Conflict(_CodedError):
    """The request is valid, but the current state does not allow it."""

    status = 409


class InterviewError(_CodedError):
    """The interview cannot continue with the given input, such as a recording without speech."""

    status = 422


class RateLimited(PrepServerError):
    """The user has used up an allowance, which is renewed at the time `details.reset`."""

    default_code = ErrorCode.RATE_LIMITED
    status = 429
    default_retryable = True


class InferenceError(PrepServerError):
    """A model could not carry out a request."""

    default_code = ErrorCode.INFERENCE
    status = 503
    default_retryable = True


class StorageError(PrepServerError):
    """The data directory or a database could not be opened, read or written.

    Changes that were not acknowledged are discarded.
    """

    default_code = ErrorCode.STORAGE
    status = 503
    default_retryable = True


class ModelError(_CodedError):
    """A model file could not be fetched, converted, verified or stored."""
