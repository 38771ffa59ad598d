"""Dialects of OpenAI's protocol, and the requests in each dialect.

A request is sent in the richest dialect first. If the endpoint rejects the request, the next
dialect is tried. The first dialect that the endpoint accepts is kept for later requests, separately
for requests with a schema, requests with options, and all others.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from prepserver.engines.chat_turns import alternating_turns, joined_turns
from prepserver.engines.types import ChatTurn, Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Dialect", "dialects_for", "encode_request", "request_path"]


SKIP_THOUGHT = "(Reply at once, without thinking first. /no_think)"
"""Last turn of a chat that asks for a reply without a thought. The models Qwen3 and SmolLM3 are
trained to obey `/no_think`."""


class Dialect(Struct, frozen=True):
    """Set of request fields that one kind of endpoint accepts."""

    extended: bool
    """True to send llama.cpp's own fields: top_k, min_p, repeat_penalty and grammar. llama.cpp's
    servers apply these fields, most other servers ignore them, and OpenAI's servers reject them."""
    schema: Literal["json_schema", "json_object", ""] = ""
    """Form in which a JSON schema is sent: `json_schema` is OpenAI's form, and `json_object` is the
    form of llama-cpp-python's server. If empty, no schema field is sent. Unless the form is
    `json_schema`, a chat contains the schema as text in a message."""
    logprobs: bool = False
    """True to ask for the most probable alternatives to each token of the reply."""
    bare: bool = False
    """True to omit `stream_options` and all sampling options, and to send the token limit of a chat
    as `max_completion_tokens`, as OpenAI's reasoning models require."""


_PLAIN = (Dialect(True), Dialect(False), Dialect(False, bare=True))
_CHOICE = (Dialect(True, logprobs=True), Dialect(False, logprobs=True), *_PLAIN)
_STRUCTURED = (
    Dialect(True, "json_schema"),
    Dialect(False, "json_schema"),
    Dialect(True, "json_object"),
    Dialect(False, "json_object"),
    Dialect(False, "json_schema", bare=True),
    Dialect(False),
    Dialect(False, bare=True),
)


def dialects_for(prompt: Prompt) -> tuple[Dialect, ...]:
    """Return the dialects to try for a prompt, the richest first."""
    if prompt.options:
        return _CHOICE
    return _PLAIN if prompt.schema is None else _STRUCTURED


def request_path(prompt: Prompt) -> str:
    return "/chat/completions" if prompt.turns else "/completions"


def encode_request(
    prompt: Prompt,
    model: str,
    dialect: Dialect,
    *,
    alternate: bool = False,
    thinking_tokens: int = 0,
) -> bytes:
    """Encode a request as JSON.

    With `alternate`, a chat is sent as user and assistant turns in alternation. `thinking_tokens`
    is added to the maximum number of tokens. Raises InferenceError, code `bad_chat`, if a chat
    prescribes the first words of the reply.
    """
    fields: dict[str, Any] = {"model": model, "stream": True}
    limit = "max_completion_tokens" if dialect.bare and prompt.turns else "max_tokens"
    fields[limit] = prompt.max_tokens + thinking_tokens
    if not dialect.bare:
        fields |= {
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "seed": prompt.seed,
            "stream_options": {"include_usage": True},
        }
    if dialect.logprobs:
        # The highest numbers that OpenAI's servers accept.
        fields |= {"logprobs": True, "top_logprobs": 20} if prompt.turns else {"logprobs": 5}
    if dialect.extended:
        fields |= {
            "top_k": prompt.top_k,
            "min_p": prompt.min_p,
            "repeat_penalty": prompt.repeat_penalty,
        }
        if prompt.grammar:
            fields["grammar"] = prompt.grammar
        if prompt.skip_thought and prompt.turns:
            # Variables of chat templates; llama.cpp's server, vLLM and SGLang pass them on.
            fields["chat_template_kwargs"] = {"enable_thinking": False, "thinking": False}
    elif prompt.skip_thought and dialect.bare and prompt.turns and thinking_tokens:
        fields["reasoning_effort"] = "low"  # the least that all of OpenAI's reasoning models accept
    return msgspec.json.encode(
        fields | _schema_fields(prompt, dialect) | _prompt_fields(prompt, dialect, alternate)
    )


def _schema_fields(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    if prompt.schema is None or not dialect.schema:
        return {}
    if dialect.schema == "json_object":
        return {"response_format": {"type": "json_object", "schema": prompt.schema}}
    named = {"name": prompt.purpose or "reply", "schema": prompt.schema}
    fields: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": named}}
    if dialect.extended and not prompt.turns:
        fields["json_schema"] = prompt.schema  # llama.cpp's own field for completions
    return fields


def _prompt_fields(prompt: Prompt, dialect: Dialect, alternate: bool) -> dict[str, Any]:
    if not prompt.turns:
        return {"prompt": prompt.text + prompt.opening}
    if prompt.opening:
        raise InferenceError(
            "A remote model does not accept the first words of its reply in a chat. Remove them.",
            code=ErrorCode.BAD_CHAT,
            retryable=False,
        )
    turns = list(prompt.turns)
    if prompt.schema is not None and dialect.schema != "json_schema":
        schema = msgspec.json.encode(prompt.schema).decode()
        turns[-1:] = joined_turns(
            [turns[-1], ChatTurn("user", f"Reply with JSON for this schema: {schema}")]
        )
    if prompt.skip_thought:
        turns[-1:] = joined_turns([turns[-1], ChatTurn("user", SKIP_THOUGHT)])
    if alternate:
        turns = alternating_turns(turns)
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
