"""Tokenisation of prompts and chats."""

from functools import cached_property

import msgspec

from prepserver.engines.llama.chat import CHATML, ChatTemplate, ControlTokenEscaper
from prepserver.engines.llama.native import LlamaContext
from prepserver.engines.types import Prompt

__all__ = ["PromptTokenizer"]


class PromptTokenizer:
    """Tokeniser of prompts. Chats are first rendered with the model's own template."""

    def __init__(self, native: LlamaContext) -> None:
        self._native = native
        self._escaper = ControlTokenEscaper(native.control_token_texts())

    @cached_property
    def template(self) -> ChatTemplate:
        """Chat template of the model; ChatML if the model's file has no template.

        The template is compiled when it is first used, because small models use none. Raises
        InferenceError, code `bad_chat`, if the template is invalid.
        """
        native = self._native
        return ChatTemplate(
            native.chat_template or CHATML,
            bos=native.bos_text,
            eos=native.eos_text,
            model=native.name,
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
        turns = [
            msgspec.structs.replace(turn, content=self._escaper.escape(turn.content))
            for turn in prompt.turns
        ]
        text = self.template.render(turns, skip_thought=prompt.skip_thought)
        text += self._escaper.escape(prompt.opening)
        return self._native.tokenize(text, parse_control=True)
