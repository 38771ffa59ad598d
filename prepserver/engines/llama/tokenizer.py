"""Tokenisation of prompts and chats."""

import msgspec

from prepserver.engines.llama.chat import ChatTemplate, ControlTokenEscaper
from prepserver.engines.llama.native import LlamaContext
from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["PromptTokenizer"]


class PromptTokenizer:
    """Tokeniser of prompts. Chats are first rendered with the model's own template."""

    def __init__(self, native: LlamaContext) -> None:
        """Compile the model's chat template, if there is one.

        Raises InferenceError, code `bad_chat`, if the template is invalid.
        """
        self._native = native
        self._escaper = ControlTokenEscaper(native.control_token_texts())
        source = native.chat_template
        self._template = (
            ChatTemplate(source, bos=native.bos_text, eos=native.eos_text) if source else None
        )

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens, at least one.

        Raises InferenceError, code `bad_chat`, if a chat cannot be rendered.
        """
        if not prompt.turns:
            # Control tokens are not parsed here, so those in user text remain text.
            text = prompt.text + prompt.opening
            tokens = self._native.tokenize(text, parse_control=False)
            # A model needs at least one token to continue.
            return tokens or self._native.tokenize("\n", parse_control=False)
        if self._template is None:
            raise InferenceError(
                "The model file has no chat template. Send the prompt as text.",
                code=ErrorCode.BAD_CHAT,
                retryable=False,
            )
        turns = [
            msgspec.structs.replace(turn, content=self._escaper.escape(turn.content))
            for turn in prompt.turns
        ]
        text = self._template.render(turns) + self._escaper.escape(prompt.opening)
        return self._native.tokenize(text, parse_control=True)
