"""From a prompt to the tokens that the model reads."""

import msgspec

from prepserver.engines.llama.chat import ChatTemplate, Mask
from prepserver.engines.llama.native import LlamaContext
from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["PromptTokenizer"]


class PromptTokenizer:
    """Chats through the model's own template; what people wrote stays text."""

    def __init__(self, native: LlamaContext) -> None:
        self._native = native
        self._mask = Mask(native.control_texts())
        source = native.chat_template
        self._template = (
            ChatTemplate(source, bos=native.bos_text, eos=native.eos_text) if source else None
        )

    def tokens(self, prompt: Prompt) -> list[int]:
        """At least one. Raises InferenceError, code `bad_chat`."""
        if not prompt.turns:
            # A model must be given something to go on from, and so that control tokens in what
            # people said stay text, none are read here.
            text = prompt.text + prompt.opening
            tokens = self._native.tokenize(text, control=False)
            return tokens or self._native.tokenize("\n", control=False)
        if self._template is None:
            raise InferenceError(
                "This model's file has no chat template; give it text to go on from instead.",
                code=ErrorCode.BAD_CHAT,
                retryable=False,
            )
        turns = [msgspec.structs.replace(t, content=self._mask(t.content)) for t in prompt.turns]
        text = self._template.render(turns) + self._mask(prompt.opening)
        return self._native.tokenize(text, control=True)
