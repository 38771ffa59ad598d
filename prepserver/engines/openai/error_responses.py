"""Conversion of an endpoint's error responses into errors that say whether a retry may help."""

from collections.abc import Mapping
from typing import Any

import msgspec

from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "bad_reply",
    "context_overflow",
    "error_from_response",
    "is_context_overflow",
    "parse_error_body",
]

MAX_TEXT = 300
"""Maximum number of code points of an endpoint's error message that are kept for the log."""

BUSY_STATUSES = frozenset({408, 409, 425, 429})


def error_from_response(
    status: int, body: bytes, headers: Mapping[str, str]
) -> tuple[InferenceError, str]:
    """Return the error for the caller, and the endpoint's own message for the log.

    The error and the message are separate, because the messages of endpoints quote keys, accounts
    and prompts. The message is empty for the statuses 401 and 403, because some endpoints quote the
    rejected key.
    """
    code, text = parse_error_body(_decode_json(body))
    if status in (401, 403):
        # Some endpoints quote the rejected key, or parts of it: nothing is logged.
        return _permanent(
            ErrorCode.ENDPOINT_UNAUTHORIZED,
            "The model's endpoint rejected the API key, or no key is set. The administrator of "
            "this server must set PREP_SERVER_OPENAI_API_KEY.",
        ), ""
    if code == "insufficient_quota" or status == 402:
        return _permanent(
            ErrorCode.ENDPOINT_UNPAID,
            "The account at the model's endpoint has no credit left. Top it up or use another "
            "model.",
        ), text
    if is_context_overflow(code, text):
        return context_overflow(), text
    if code == "model_not_found" or status == 404:
        return _permanent(
            ErrorCode.MODEL_NOT_FOUND,
            "The model's endpoint does not serve this model for this kind of request. "
            "Check the address and the name of the model.",
        ), text
    # llama-cpp-python's server answers a request that it cannot parse with status 500.
    if status in BUSY_STATUSES or (status >= 500 and "validation error" not in text):
        details = {"retry_after": seconds} if (seconds := _retry_after(headers)) else {}
        return InferenceError(
            f"The model's endpoint is busy or failing (status {status}). Try again later.",
            code=ErrorCode.ENDPOINT_BUSY,
            details=details,
        ), text
    if status == 413:
        return _permanent(
            ErrorCode.REQUEST_TOO_LONG,
            "The request is too long for the model's endpoint. Shorten the request.",
        ), text
    if 300 <= status < 400:
        return _permanent(
            ErrorCode.ENDPOINT_MOVED,
            "The model's endpoint redirects to another address. The administrator of this server "
            "must set the new address.",
        ), text
    return _permanent(
        ErrorCode.ENDPOINT_REFUSED,
        f"The model's endpoint rejected the request (status {status}). The server's debug log has "
        "the reason.",
    ), text


def parse_error_body(body: Any) -> tuple[str, str]:
    """Return the error code and message from a decoded response; each may be empty.

    OpenAI's form is `{"error": {"code", "message"}}`. Other endpoints omit the outer object, send a
    string instead of the inner object, or use FastAPI's `{"detail"}`.
    """
    if not isinstance(body, dict):
        return "", ""
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        inner = {"message": inner}
    code = inner.get("code") or inner.get("type") or ""
    message = inner.get("message") or inner.get("detail") or ""
    return str(code), " ".join(str(message).split())[:MAX_TEXT]


def is_context_overflow(code: str, text: str) -> bool:
    """Return True if an error means that the prompt exceeds the model's context."""
    return code in ("context_length_exceeded", "exceed_context_size_error") or (
        "context" in text and any(word in text for word in ("maximum", "exceed", "longer than"))
    )


def context_overflow() -> InferenceError:
    return _permanent(
        ErrorCode.CONTEXT_OVERFLOW,
        "The prompt is longer than the context of the model at the endpoint. Set `context` to the "
        "number of tokens that the endpoint offers.",
    )


def bad_reply(problem: str) -> InferenceError:
    return InferenceError(
        f"The reply from the model's endpoint is invalid: {problem}. Try again.",
        code=ErrorCode.BAD_REPLY,
    )


def _retry_after(headers: Mapping[str, str]) -> int:
    """Return the number of seconds in the Retry-After header, or 0 unless the header is a whole
    number of at most five digits."""
    value = headers.get("retry-after", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def _decode_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"message": body.decode("utf-8", "replace")}


def _permanent(code: ErrorCode, message: str) -> InferenceError:
    """Return an InferenceError that tells the caller not to retry."""
    return InferenceError(message, code=code, retryable=False)
