"""How to put a prompt to an endpoint: all speak OpenAI's protocol, each a little differently.

The richest form comes first. An endpoint that refuses it is asked in the next one, and the form
that it took is kept.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Dialect", "body", "ladder", "path"]


class Dialect(Struct, frozen=True):
    extended: bool
    """llama.cpp's own fields: top_k, min_p, repeat_penalty and the grammar. llama.cpp's servers
    heed them and most others ignore them; OpenAI's refuses what it does not know."""
    schema: Literal["json_schema", "json_object", ""] = ""
    """How a schema is stated: OpenAI's way, that of llama-cpp-python's server, or in words."""
    bare: bool = False
    """Without any choice of how to sample, and the limit under its newer name: what OpenAI's
    reasoning models insist on."""


_PLAIN = (Dialect(True), Dialect(False), Dialect(False, bare=True))
_STRUCTURED = (
    Dialect(True, "json_schema"),
    Dialect(False, "json_schema"),
    Dialect(True, "json_object"),
    Dialect(False, "json_object"),
    Dialect(False, "json_schema", bare=True),
    Dialect(False),
    Dialect(False, bare=True),
)


def ladder(prompt: Prompt) -> tuple[Dialect, ...]:
    """The forms to try, one after the other."""
    return _PLAIN if prompt.schema is None else _STRUCTURED


def path(prompt: Prompt) -> str:
    return "/chat/completions" if prompt.turns else "/completions"


def body(prompt: Prompt, model: str, dialect: Dialect) -> bytes:
    """JSON. Raises InferenceError, code `bad_chat`."""
    fields: dict[str, Any] = {"model": model, "stream": True}
    limit = "max_completion_tokens" if dialect.bare and prompt.turns else "max_tokens"
    fields[limit] = prompt.max_tokens
    if not dialect.bare:
        fields |= {
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "seed": prompt.seed,
            "stream_options": {"include_usage": True},
        }
    if dialect.extended:
        fields |= {
            "top_k": prompt.top_k,
            "min_p": prompt.min_p,
            "repeat_penalty": prompt.repeat_penalty,
        }
        if prompt.grammar:
            fields["grammar"] = prompt.grammar
    return msgspec.json.encode(fields | _schema(prompt, dialect) | _words(prompt, dialect))


def _schema(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    if prompt.schema is None or not dialect.schema:
        return {}
    if dialect.schema == "json_object":
        return {"response_format": {"type": "json_object", "schema": prompt.schema}}
    named = {"name": prompt.purpose or "reply", "schema": prompt.schema}
    stated: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": named}}
    if dialect.extended and not prompt.turns:
        stated["json_schema"] = prompt.schema  # llama.cpp's name for it beside `prompt`
    return stated


def _words(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    if not prompt.turns:
        return {"prompt": prompt.text + prompt.opening}
    if prompt.opening:
        raise InferenceError(
            "A chat with a model elsewhere cannot be given the first words of the reply.",
            code=ErrorCode.BAD_CHAT,
            retryable=False,
        )
    messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
    if prompt.schema is not None and dialect.schema != "json_schema":
        schema = msgspec.json.encode(prompt.schema).decode()
        messages.append({"role": "user", "content": f"Reply with JSON for this schema: {schema}"})
    return {"messages": messages}
