"""Parsing of streamed replies, and extraction of JSON from replies."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from prepserver.engines.openai.choices import TokenAlternatives, parse_logprobs
from prepserver.engines.openai.error_responses import (
    bad_reply,
    context_overflow,
    is_context_overflow,
    parse_error_body,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["JsonExtractor", "ReplyChunk", "TokenCounts", "parse_chunk"]


class _Part(Struct):
    text: str | None = None
    thinking: Any = None


class _Content(Struct):
    content: str | list[_Part] | None = None
    """Text or, from Mistral's reasoning models, parts of the text and of the thought."""
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    thinking: Any = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""

    @property
    def thought(self) -> str:
        """Thought under any of the names that endpoints use."""
        parts = self.content if isinstance(self.content, list) else []
        fields = (
            *(self.reasoning_content, self.reasoning, self.reasoning_details, self.thinking),
            *(part.thinking for part in parts),
        )
        return next((str(field) for field in fields if field), "")


class _Choice(Struct):
    text: str | None = None
    delta: _Content | None = None
    message: _Content | None = None
    """Whole reply of an endpoint that cannot stream."""
    logprobs: Any = None
    finish_reason: str | None = None


class _Details(Struct):
    cached_tokens: int | None = None


class _ReplyDetails(Struct):
    reasoning_tokens: int | None = None


class TokenCounts(Struct):
    """Token counts as reported by the endpoint; 0 for a count that is not reported."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _ReplyDetails | None = None

    @property
    def thought_tokens(self) -> int:
        details = self.completion_tokens_details
        return (details and details.reasoning_tokens) or 0

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details and details.cached_tokens) or 0


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class ReplyChunk(Struct, frozen=True):
    """Content of one event in a streamed reply, or of a whole reply."""

    text: str = ""
    thought: str = ""
    """Part of a thought that the endpoint separates from the reply."""
    finish_reason: str = ""
    counts: TokenCounts | None = None
    tokens: Sequence[TokenAlternatives] = ()
    """Tokens of the text with their alternatives, if the request has asked for them."""


_decoder: msgspec.json.Decoder[_Chunk] = msgspec.json.Decoder(_Chunk)


def parse_chunk(data: str) -> ReplyChunk:
    """Parse the data of one event.

    Raises InferenceError if the data is invalid or reports an error.
    """
    try:
        chunk = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise bad_reply("an event has an unknown format") from error
    if chunk.error is not None:
        code, message = parse_error_body({"error": chunk.error})
        if is_context_overflow(code, message):
            raise context_overflow()
        raise InferenceError(
            "The model's endpoint failed in the middle of its reply. Try again.",
            code=ErrorCode.ENDPOINT_FAILED,
        )
    choice = chunk.choices[0] if chunk.choices else _Choice()
    content = choice.delta or choice.message
    text = choice.text if content is None else content.text
    thought = content.thought if content else ""
    return ReplyChunk(
        text or "",
        thought,
        choice.finish_reason or "",
        chunk.usage,
        parse_logprobs(choice.logprobs),
    )


class JsonExtractor:
    """Extractor of the first JSON value in a reply, without the text around the value.

    The value is an array if the schema's type is `array`, otherwise an object.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._opening = "[" if schema.get("type") == "array" else "{"
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._ended = False

    def feed(self, text: str) -> str:
        """Process the next text of the reply, and return the part that belongs to the JSON
        value."""
        found: list[str] = []
        for character in text:
            if self._ended:
                break
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif not self._depth and character != self._opening:
                continue
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                self._ended = self._depth == 0
            elif character == '"':
                self._in_string = True
            found.append(character)
        return "".join(found)
