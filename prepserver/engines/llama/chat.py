"""A chat as the one text that a model was trained on.

The template comes with the model's file. It is a program by a stranger, so it runs in Jinja's
sandbox, and it is told neither the date nor anything else that would make the same chat two
different prompts.
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

__all__ = ["ChatTemplate", "Mask"]


class ChatTemplate:
    """Turns into a prompt, up to where the assistant begins to speak."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        """`bos` and `eos` are the texts of the model's tokens. Raises InferenceError."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise _bad_chat(f"The model's chat template is broken: {error}") from error
        self._bos = bos
        self._eos = eos

    def render(self, turns: Sequence[ChatTurn]) -> str:
        """Raises InferenceError, code `bad_chat`, when the template refuses these turns."""
        try:
            return self._template.render(
                messages=[{"role": turn.role, "content": turn.content} for turn in turns],
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
                raise_exception=_refuse,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise _bad_chat(f"The model's chat template refuses the chat: {error}") from error


class Mask:
    """Keeps what people wrote from being read as the model's control tokens.

    A candidate who types `<|im_end|>` has typed ten characters, not the end of a turn.
    """

    def __init__(self, control: Iterable[str]) -> None:
        texts = sorted((text for text in control if len(text) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None

    def __call__(self, text: str) -> str:
        """The text with a space after the first character of each control token."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def _refuse(message: Any) -> NoReturn:
    raise ValueError(str(message))


def _bad_chat(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.BAD_CHAT, retryable=False)
