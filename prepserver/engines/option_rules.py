"""Rules for prompts whose reply is one of several options."""

from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["MAX_OPTIONS", "bad_options", "check_options"]

MAX_OPTIONS = 32


def check_options(prompt: Prompt) -> None:
    """Raise InferenceError, code `bad_grammar`, if the prompt's options break a rule."""
    options = prompt.options
    if prompt.schema is not None or prompt.grammar:
        raise bad_options("The prompt has options and a grammar or schema. Remove one of them.")
    if not 2 <= len(options) <= MAX_OPTIONS:
        raise bad_options(
            f"The number of options is {len(options)}. Give 2 to {MAX_OPTIONS} options."
        )
    if not all(option.strip() for option in options) or len(set(options)) < len(options):
        raise bad_options("Two options are equal, or one is empty. Give different options.")


def bad_options(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.BAD_GRAMMAR, retryable=False)
