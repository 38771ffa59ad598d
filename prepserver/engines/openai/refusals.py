"""What an endpoint means by a status other than 200, and whether it helps to ask again."""

from collections.abc import Mapping
from typing import Any

import msgspec

from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["error_text", "overflow", "refusal"]

LONGEST = 300
"""Code points of what the endpoint says that are kept, for the log."""

BUSY = frozenset({408, 409, 425, 429})


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> tuple[InferenceError, str]:
    """The error for whoever waits, and the endpoint's own words for the log.

    The two are kept apart: endpoints quote keys, accounts and prompts.
    """
    code, said = error_text(_json(body))
    if status in (401, 403):
        # Some quote the key that they refuse, or parts of it.
        return _fixed(
            ErrorCode.ENDPOINT_UNAUTHORIZED,
            "The model's endpoint refuses the API key, or there is none. Whoever runs the server "
            "sets it as PREP_SERVER_OPENAI_API_KEY.",
        ), ""
    if code == "insufficient_quota" or status == 402:
        return _fixed(
            ErrorCode.ENDPOINT_UNPAID, "The account at the model's endpoint is used up."
        ), said
    if overflow(code, said):
        return context_overflow(), said
    if code == "model_not_found" or status == 404:
        return _fixed(
            ErrorCode.MODEL_NOT_FOUND,
            "The model's endpoint does not have this model, or not for this kind of request. "
            "Check the address and the name of the model.",
        ), said
    # llama-cpp-python's server answers 500 to what it does not understand.
    if status in BUSY or (status >= 500 and "validation error" not in said):
        details = {"retry_after": seconds} if (seconds := _retry_after(headers)) else {}
        return InferenceError(
            f"The model's endpoint cannot answer now (status {status}). Try again later.",
            code=ErrorCode.ENDPOINT_BUSY,
            details=details,
        ), said
    if status == 413:
        return _fixed(
            ErrorCode.REQUEST_TOO_LONG, "The model's endpoint takes no request so long."
        ), said
    if 300 <= status < 400:
        return _fixed(
            ErrorCode.ENDPOINT_MOVED,
            "The model's endpoint points to another address. Whoever runs the server sets the "
            "right one.",
        ), said
    return _fixed(
        ErrorCode.ENDPOINT_REFUSED, f"The model's endpoint refuses the request (status {status})."
    ), said


def error_text(body: Any) -> tuple[str, str]:
    """Code and message out of the shapes that are in use; each may be empty.

    OpenAI's is `{"error": {"code", "message"}}`; others leave out the outer object, give a string
    for the inner one, or FastAPI's `{"detail"}`.
    """
    if not isinstance(body, dict):
        return "", ""
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        inner = {"message": inner}
    code = inner.get("code") or inner.get("type") or ""
    message = inner.get("message") or inner.get("detail") or ""
    return str(code), " ".join(str(message).split())[:LONGEST]


def overflow(code: str, said: str) -> bool:
    """Whether the prompt did not fit."""
    return code in ("context_length_exceeded", "exceed_context_size_error") or (
        "context" in said and any(word in said for word in ("maximum", "exceed", "longer than"))
    )


def context_overflow() -> InferenceError:
    return _fixed(
        ErrorCode.CONTEXT_OVERFLOW,
        "The prompt is longer than what the model at the endpoint can read. Set `context` to the "
        "tokens that the endpoint offers.",
    )


def _retry_after(headers: Mapping[str, str]) -> int:
    value = headers.get("retry-after", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"message": body.decode("utf-8", "replace")}


def _fixed(code: ErrorCode, message: str) -> InferenceError:
    return InferenceError(message, code=code, retryable=False)
