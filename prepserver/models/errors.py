"""What can go wrong with model files: `PrepServerError`s that say what to do about it."""

from prepserver.errors import NotFound, PrepServerError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ModelError", "ModelNotFound"]


class ModelError(PrepServerError):
    """A model file could not be fetched, converted, checked or stored."""

    default_code = ErrorCode.MODEL


class ModelNotFound(NotFound):
    """No such model is known, or it is known and was not fetched yet."""

    default_code = ErrorCode.MODEL_NOT_FOUND
