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
        return self._tokenize(prompt, self._render(prompt), prompt.opening)

    def tokenize_options(self, prompt: Prompt) -> list[list[int]]:
        """Return the tokens of the prompt with each of its options appended.

        An option is never tokenised alone, because some vocabularies merge its first characters
        with the prompt's last ones. Raises InferenceError, code `bad_chat`, if a chat cannot be
        rendered.
        """
        text = self._render(prompt)
        replies = [prompt.opening + option for option in prompt.options]
        sequences = [self._tokenize(prompt, text, reply) for reply in replies]
        if len({tokens[0] for tokens in sequences}) > 1:
            # A model needs at least one token to continue.
            newline = self._tokenize(prompt, "", "\n")
            sequences = [newline + tokens for tokens in sequences]
        return sequences

    def _tokenize(self, prompt: Prompt, text: str, reply: str) -> list[int]:
        """Return the tokens of a rendered prompt with the beginning of its reply, at least one."""
        if prompt.turns:
            return self._native.tokenize(text + self._escaper.escape(reply), parse_control=True)
        # Control tokens are not parsed here, so those in user text remain text.
        # A model needs at least one token to continue.
        return self._native.tokenize(text + reply or "\n", parse_control=False)

    def _render(self, prompt: Prompt) -> str:
        if not prompt.turns:
            return prompt.text
        turns = [
            msgspec.structs.replace(turn, content=self._escaper.escape(turn.content))
            for turn in prompt.turns
        ]
        return self.template.render(turns, skip_thought=prompt.skip_thought)
