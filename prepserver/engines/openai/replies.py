"""What an endpoint streams back, and the JSON in it."""

from typing import Any

import msgspec
from msgspec import Struct

from prepserver.engines.openai.events import bad_reply
from prepserver.engines.openai.refusals import context_overflow, error_text, overflow
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["JsonPart", "ReplyChunk", "TokenCounts", "piece"]


class _Content(Struct):
    content: str | None = None


class _Choice(Struct):
    text: str | None = None
    delta: _Content | None = None
    finish_reason: str | None = None


class _Details(Struct):
    cached_tokens: int | None = None


class TokenCounts(Struct):
    """Tokens, as the endpoint counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details and details.cached_tokens) or 0


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class ReplyChunk(Struct, frozen=True):
    """What one event says."""

    text: str = ""
    finish: str = ""
    counts: TokenCounts | None = None


_chunks: msgspec.json.Decoder[_Chunk] = msgspec.json.Decoder(_Chunk)


def piece(data: str) -> ReplyChunk:
    """Raises InferenceError."""
    try:
        chunk = _chunks.decode(data)
    except msgspec.DecodeError as error:
        raise bad_reply("an event is not what it should be") from error
    if chunk.error is not None:
        code, said = error_text({"error": chunk.error})
        if overflow(code, said):
            raise context_overflow()
        raise InferenceError(
            "The model's endpoint failed in the middle of its reply. Try again.",
            code=ErrorCode.ENDPOINT_FAILED,
        )
    choice = chunk.choices[0] if chunk.choices else _Choice()
    text = choice.text if choice.delta is None else choice.delta.content
    return ReplyChunk(text or "", choice.finish_reason or "", chunk.usage)


class JsonPart:
    """The one object or list in a reply, without the fences and words around it."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._ended = False
        self._first = "[" if schema.get("type") == "array" else "{"
        self._open = 0
        self._quoted = False
        self._escaped = False

    def feed(self, text: str) -> str:
        """What of the text belongs to it."""
        found: list[str] = []
        for character in text:
            if self._ended:
                break
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._quoted = False
            elif not self._open and character != self._first:
                continue
            elif character in "{[":
                self._open += 1
            elif character in "}]":
                self._open -= 1
                self._ended = self._open == 0
            elif character == '"':
                self._quoted = True
            found.append(character)
        return "".join(found)
