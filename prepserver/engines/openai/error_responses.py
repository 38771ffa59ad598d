"""Conversion of an endpoint's error responses into errors that say whether a retry may help."""

import re
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
    "redact_quotes",
]

MAX_PARSED = 4_096
"""Number of code points of an endpoint's error message that are examined."""
MAX_TEXT = 300
"""Maximum number of code points of an endpoint's error message that are kept for the log."""

MAX_DEPTH = 4
"""Maximum depth of a message within an error."""
MESSAGE_KEYS = ("message", "detail", "error", "errors", "msg", "reason", "title")

_TAG = re.compile(r"<(style|script)\b.*?</\1>|<[/!a-zA-Z][^>]*>", re.IGNORECASE | re.DOTALL)

REFUSAL_WORDS = ("validation error", "jinja", "template", "roles must", "system role", "logprobs")
"""Words in the error messages of endpoints that answer an invalid request with status 500."""

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
    refused = any(word in text.lower() for word in REFUSAL_WORDS)
    if status in BUSY_STATUSES or (status >= 500 and not refused):
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
        f"The model's endpoint rejected the request (status {status}). The server's log has the "
        "reason.",
    ), text


def parse_error_body(body: Any) -> tuple[str, str]:
    """Return the error code and message from a decoded response; each may be empty.

    OpenAI's form is `{"error": {"code", "message"}}`. Other endpoints omit the outer object, send a
    list or a string instead of an object, or use FastAPI's `{"detail"}`. The message is plain text
    of at most MAX_TEXT code points.
    """
    fields = body[0] if isinstance(body, list) and body else body
    inner = fields.get("error") or fields if isinstance(fields, dict) else fields
    code = (inner.get("code") or inner.get("type") or "") if isinstance(inner, dict) else ""
    text = _TAG.sub(" ", _find_message(inner)[:MAX_PARSED])
    printable = "".join(character if character.isprintable() else " " for character in text)
    return str(code), " ".join(printable.split())[:MAX_TEXT]


def _find_message(value: Any, depth: int = 0) -> str:
    """Return the messages in an error, without the input that FastAPI quotes."""
    if isinstance(value, str):
        return value
    if depth == MAX_DEPTH:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_find_message(each, depth + 1) for each in value[:5])))
    if isinstance(value, dict):
        found = (_find_message(value[key], depth + 1) for key in MESSAGE_KEYS if key in value)
        return next(filter(None, found), "")
    return ""


def redact_quotes(text: str, sent: str) -> str:
    """Return an endpoint's message with `[…]` for each three or more words that also stand in a
    row in the request."""
    words = list(re.finditer(r"\w+", text))
    known = re.findall(r"\w+", sent.lower())
    known_triples = set(zip(known, known[1:], known[2:], strict=False))
    triples = zip(words, words[1:], words[2:], strict=False)
    spans = [
        (first.start(), last.end())
        for first, middle, last in triples
        if (first[0].lower(), middle[0].lower(), last[0].lower()) in known_triples
    ]
    kept, position = "", 0
    for start, end in spans:
        kept += text[position:start] + "[…]" if start >= position else ""
        position = max(position, end)
    return kept + text[position:]


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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"message": body.decode("utf-8", "replace")}


def _permanent(code: ErrorCode, message: str) -> InferenceError:
    """Return an InferenceError that tells the caller not to retry."""
    return InferenceError(message, code=code, retryable=False)
