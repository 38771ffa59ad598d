"""Choice of one of a prompt's options by a model that can only write.

The model writes the option. If the endpoint reports the most probable alternatives to each token,
the probabilities of all options are derived from the alternatives to the option's first token.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from prepserver.engines.openai.error_responses import bad_reply
from prepserver.engines.types import Prompt

__all__ = ["TokenAlternatives", "choose_option", "parse_logprobs", "written_prompt"]

SPARE_TOKENS = 16
"""Tokens allowed in addition to the characters of the longest option, for words around it."""


class TokenAlternatives(Struct, frozen=True):
    """Token of a reply with the tokens that were probable in its place."""

    token: str
    logprobs: dict[str, float]
    """Logarithm of the probability of each alternative, including the token itself."""


class _Alternative(Struct):
    token: str
    logprob: float


class _ChatToken(Struct):
    token: str
    top_logprobs: list[_Alternative] = []


class _Logprobs(Struct):
    """Field `logprobs` of a choice. Chats use `content`, completions use the other two fields."""

    content: list[_ChatToken] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


def parse_logprobs(logprobs: Any) -> list[TokenAlternatives]:
    """Return the tokens in the field `logprobs` of a choice; none if its form is unknown."""
    try:
        parsed = msgspec.convert(logprobs, _Logprobs | None)
    except msgspec.ValidationError:
        return []
    if parsed is None:
        return []
    if parsed.content:
        return [
            TokenAlternatives(
                each.token, {other.token: other.logprob for other in each.top_logprobs}
            )
            for each in parsed.content
        ]
    tokens = zip(parsed.tokens or [], parsed.top_logprobs or [], strict=False)
    return [TokenAlternatives(token, alternatives or {}) for token, alternatives in tokens]


def written_prompt(prompt: Prompt) -> Prompt:
    """Return the prompt that makes a model write one of the options."""
    alternatives = " | ".join(json.dumps(option, ensure_ascii=False) for option in prompt.options)
    return msgspec.structs.replace(
        prompt,
        grammar=f"root ::= {alternatives}",
        max_tokens=max(map(len, prompt.options)) + SPARE_TOKENS,
        temperature=0.0,
        repeat_penalty=1.0,
    )


def choose_option(
    text: str, options: Sequence[str], tokens: Sequence[TokenAlternatives]
) -> tuple[str, tuple[float, ...]]:
    """Return the option that a reply names, and the probabilities of all options.

    `tokens` are the tokens of the reply with their alternatives, if they are known. Raises
    InferenceError, code `bad_reply`, if the reply names no option.
    """
    chosen = _find_option(text, options)
    for token in tokens:
        if _begins(options[chosen], token.token):
            weights = [
                sum(
                    math.exp(logprob)
                    for alternative, logprob in token.logprobs.items()
                    if _begins(option, alternative)
                )
                for option in options
            ]
            ambiguous = any(
                sum(_begins(option, alternative) for option in options) > 1
                for alternative in token.logprobs
            )
            if not ambiguous and weights[chosen] > 0:
                total = sum(weights)
                return options[chosen], tuple(weight / total for weight in weights)
            break
    return options[chosen], tuple(float(index == chosen) for index in range(len(options)))


def _find_option(text: str, options: Sequence[str]) -> int:
    """Return the index of the option that occurs first as a word of the text; of several at one
    place, the longest."""
    found = [
        (match.start(), -len(option), index)
        for index, option in enumerate(options)
        if (match := re.search(rf"(?<!\w){re.escape(option.strip())}(?!\w)", text, re.IGNORECASE))
    ]
    if not found:
        raise bad_reply("it names none of the options")
    return min(found)[2]


def _begins(option: str, token: str) -> bool:
    """Return True if the option begins with the token, apart from spaces and case."""
    start = token.strip().lower()
    return bool(start) and option.strip().lower().startswith(start)
