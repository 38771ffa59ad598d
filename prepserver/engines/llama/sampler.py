"""Sampling of the next token, entirely with llama.cpp's own samplers.

Control tokens and the marks of thoughts are excluded. The samplers are applied in llama.cpp's
order: penalties, top-k, top-p, min-p, temperature, distribution. At temperature 0, only penalties
and greedy selection are applied. Applying a grammar
to the whole vocabulary costs more than a small model's forward pass. Therefore a token is first
sampled without the grammar, and the grammar checks only this token. If the grammar rejects the
token, the grammar is applied to the whole vocabulary and another token is sampled. llama.cpp's
`common_sampler_sample` does the same.
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
"""Number of recent tokens that the repetition penalty covers; the value is llama.cpp's default."""
RANDOM_SEED = 0xFFFF_FFFF
"""Value of llama.cpp's LLAMA_DEFAULT_SEED, which requests a random seed. Valid seeds are
smaller."""


class Sampler:
    """Samplers for one reply. `close` frees the native samplers."""

    def __init__(self, native: LlamaContext, prompt: Prompt, tokens: Sequence[int]) -> None:
        """Create the samplers. The repetition penalty also covers the last tokens of the prompt.

        Raises InferenceError, code `bad_grammar`, if the prompt's grammar or schema is invalid, or
        if the prompt has both.
        """
        self._native = native
        # First, because only this can fail.
        self._grammar = _init_grammar(native, prompt)
        self._penalties = lib.llama_sampler_init_penalties(
            native.n_vocab, PENALTY_WINDOW, prompt.repeat_penalty, 0.0, 0.0
        )
        for token in tokens[-PENALTY_WINDOW:]:
            lib.llama_sampler_accept(self._penalties, token)
        self._unconstrained = _sampler_chain(
            _exclude_tokens(native), self._penalties, *_distribution_samplers(prompt)
        )
        # A chain owns its samplers: the constrained one owns the grammar and the unconstrained one.
        self._constrained = (
            None if self._grammar is None else _sampler_chain(self._grammar, self._unconstrained)
        )

    def sample(self, index: int) -> int:
        """Sample a token from the logits at `index` of the last batch."""
        context = self._native.context
        if self._grammar is None:
            return int(lib.llama_sampler_sample(self._unconstrained, context, index))
        saved_penalties = lib.llama_sampler_clone(self._penalties)
        try:
            token = int(lib.llama_sampler_sample(self._unconstrained, context, index))
            if self._grammar_allows(token):
                lib.llama_sampler_accept(self._grammar, token)
                return token
            lib.llama_sampler_copy(saved_penalties, self._penalties)
        finally:
            lib.llama_sampler_free(saved_penalties)
        return int(lib.llama_sampler_sample(self._constrained, context, index))

    def close(self) -> None:
        lib.llama_sampler_free(self._constrained or self._unconstrained)

    def _grammar_allows(self, token: int) -> bool:
        candidate = lib.llama_token_data(token, 1.0, 0.0)
        candidates = lib.llama_token_data_array(ctypes.pointer(candidate), 1, -1, False)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return not math.isinf(candidate.logit)


def _sampler_chain(*samplers: Any) -> Any:
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers:
        lib.llama_sampler_chain_add(chain, sampler)
    return chain


def _exclude_tokens(native: LlamaContext) -> Any:
    """Return a sampler that excludes the tokens that do not belong in a reply.

    The grammar's sampler compares the texts of control tokens with the grammar, and would accept
    the beginning of a thought as part of a question.
    """
    tokens = native.unspoken_tokens
    biases = (lib.llama_logit_bias * len(tokens))(*((token, -math.inf) for token in tokens))
    return lib.llama_sampler_init_logit_bias(native.n_vocab, len(tokens), biases)


def _distribution_samplers(prompt: Prompt) -> list[Any]:
    if prompt.temperature <= 0:
        return [lib.llama_sampler_init_greedy()]
    return [
        lib.llama_sampler_init_top_k(prompt.top_k),
        lib.llama_sampler_init_top_p(prompt.top_p, 1),
        lib.llama_sampler_init_min_p(prompt.min_p, 1),
        lib.llama_sampler_init_temp(prompt.temperature),
        lib.llama_sampler_init_dist(prompt.seed % RANDOM_SEED),
    ]


def _init_grammar(native: LlamaContext, prompt: Prompt) -> Any:
    """Return a sampler for the prompt's grammar or schema, or None if the prompt has neither.

    Raises InferenceError, code `bad_grammar`, if the grammar or schema is invalid, or if the prompt
    has both.
    """
    source = prompt.grammar
    if prompt.schema is not None:
        if source:
            raise _bad_grammar("The prompt has both a grammar and a schema. Remove one of them.")
        try:
            source = json_schema_to_gbnf(json.dumps(prompt.schema))
        except Exception as error:  # the converter documents no exceptions
            raise _bad_grammar(f"Could not convert the JSON schema to a grammar: {error}.") from (
                error
            )
    if not source:
        return None
    grammar = lib.llama_sampler_init_grammar(native.vocabulary, source.encode(), b"root")
    if not grammar:
        raise _bad_grammar("The grammar is invalid: it must be GBNF with a rule `root`.")
    return grammar


def _bad_grammar(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.BAD_GRAMMAR, retryable=False)
