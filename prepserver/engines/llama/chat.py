"""Rendering of a chat as text in the format that the model was trained on.

The template is part of the model's file. The template is a program from an untrusted source, so it
runs in Jinja's sandbox. The template receives neither the date nor any other varying value, so that
the same chat always gives the same prompt.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from prepserver.engines.types import ChatTurn
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ChatTemplate", "ControlTokenEscaper"]


class ChatTemplate:
    """Compiled chat template of a model."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        """Compile the template.

        `bos` and `eos` are the texts of the model's begin and end tokens. Raises InferenceError,
        code `bad_chat`, if the template is invalid.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise _bad_chat(
                f"The model's chat template is invalid: {error}. Choose another model."
            ) from error
        self._bos = bos
        self._eos = eos

    def render(self, turns: Sequence[ChatTurn]) -> str:
        """Return the chat as one text, which ends where the assistant's reply begins.

        Raises InferenceError, code `bad_chat`, when the template rejects the turns.
        """
        try:
            return self._template.render(
                messages=[{"role": turn.role, "content": turn.content} for turn in turns],
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
                raise_exception=_raise_exception,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise _bad_chat(
                f"The model's chat template rejected the conversation: {error}. Choose another "
                "model."
            ) from error


class ControlTokenEscaper:
    """Escaper for user text that would otherwise be parsed as the model's control tokens.

    If a candidate types `<|im_end|>`, the model reads these characters as text, and the turn
    continues.
    """

    def __init__(self, control_tokens: Iterable[str]) -> None:
        texts = sorted((text for text in control_tokens if len(text) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None

    def escape(self, text: str) -> str:
        """Return the text with a space after the first character of each control token.

        A control token of a single character is not escaped.
        """
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def _raise_exception(message: Any) -> NoReturn:
    raise ValueError(str(message))


def _bad_chat(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.BAD_CHAT, retryable=False)
