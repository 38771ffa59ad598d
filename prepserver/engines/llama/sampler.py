"""Drawing the next token, all of it in llama.cpp's own samplers.

The order is llama.cpp's: penalties, top-k, top-p, min-p, temperature, draw. A grammar has to
look at the whole vocabulary to forbid what does not fit, which costs more than the model itself
does on a small model; so a token is drawn without it first, the grammar looks at that one token,
and only when it says no does it look at all of them (llama.cpp's `common_sampler_sample` does
the same).
"""

import ctypes
import json
import math
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
from llama_cpp.llama_grammar import json_schema_to_gbnf

from prepserver.engines.llama.native import LlamaContext
from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Sampler"]

PENALTY_WINDOW = 64
"""Tokens back that a repetition is looked for, llama.cpp's default."""
SEEDS = 0xFFFF_FFFF
"""llama.cpp takes a seed below this; this one itself would mean a random seed."""


class Sampler:
    """The samplers of one reply. To be closed."""

    def __init__(self, native: LlamaContext, prompt: Prompt, tokens: Sequence[int]) -> None:
        """`tokens` is what the model has read, the prompt. Raises InferenceError, code
        `bad_grammar`."""
        self._native = native
        # First, because it is what can fail.
        self._grammar = _grammar(native, prompt)
        self._penalties = lib.llama_sampler_init_penalties(
            native.n_vocab, PENALTY_WINDOW, prompt.repeat_penalty, 0.0, 0.0
        )
        for token in tokens[-PENALTY_WINDOW:]:
            lib.llama_sampler_accept(self._penalties, token)
        self._free = _chain(self._penalties, *_draw(prompt))
        # A chain owns what is in it, so the strict one holds the grammar and the free chain.
        self._strict = None if self._grammar is None else _chain(self._grammar, self._free)

    def sample(self, row: int) -> int:
        """Draw from the logits of a row of the last batch."""
        context = self._native.context
        if self._grammar is None:
            return int(lib.llama_sampler_sample(self._free, context, row))
        before = lib.llama_sampler_clone(self._penalties)
        try:
            token = int(lib.llama_sampler_sample(self._free, context, row))
            if self._allows(token):
                lib.llama_sampler_accept(self._grammar, token)
                return token
            lib.llama_sampler_copy(before, self._penalties)
        finally:
            lib.llama_sampler_free(before)
        return int(lib.llama_sampler_sample(self._strict, context, row))

    def close(self) -> None:
        lib.llama_sampler_free(self._strict or self._free)

    def _allows(self, token: int) -> bool:
        one = lib.llama_token_data(token, 1.0, 0.0)
        candidates = lib.llama_token_data_array(ctypes.pointer(one), 1, -1, False)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return not math.isinf(one.logit)


def _chain(*samplers: Any) -> Any:
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers:
        lib.llama_sampler_chain_add(chain, sampler)
    return chain


def _draw(prompt: Prompt) -> list[Any]:
    if prompt.temperature <= 0:
        return [lib.llama_sampler_init_greedy()]
    return [
        lib.llama_sampler_init_top_k(prompt.top_k),
        lib.llama_sampler_init_top_p(prompt.top_p, 1),
        lib.llama_sampler_init_min_p(prompt.min_p, 1),
        lib.llama_sampler_init_temp(prompt.temperature),
        lib.llama_sampler_init_dist(prompt.seed % SEEDS),
    ]


def _grammar(native: LlamaContext, prompt: Prompt) -> Any:
    source = prompt.grammar
    if prompt.schema is not None:
        if source:
            raise _bad_grammar("A prompt has either a grammar or a schema, not both.")
        try:
            source = json_schema_to_gbnf(json.dumps(prompt.schema))
        except Exception as error:  # the converter raises whatever its own code runs into
            raise _bad_grammar(f"The JSON schema cannot be turned into a grammar: {error}.") from (
                error
            )
    if not source:
        return None
    grammar = lib.llama_sampler_init_grammar(native.vocabulary, source.encode(), b"root")
    if not grammar:
        raise _bad_grammar("The grammar is not valid GBNF with a rule `root`.")
    return grammar


def _bad_grammar(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.BAD_GRAMMAR, retryable=False)
