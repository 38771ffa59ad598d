"""Probabilities of a prompt's options.

The probability of an option is the probability with which sampling at temperature 1, under a
grammar that allows only the options, would write the option. The tokens of the options form a tree,
and the model is asked only where the tree branches. For options that differ in their first token,
such as single digits, this is once: after the prompt.

The module is pure: it runs no inference and does not import the native library.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from prepserver.engines.llama.kv_slots import shared_prefix_length

__all__ = ["OptionTree"]


class _Branch(Struct, frozen=True):
    """Point at which options part."""

    path: tuple[int, ...]
    """Tokens between the prompt and the branch."""
    choices: dict[int, list[int]]
    """Indices of the options that continue with each token."""
    ended: list[int]
    """Index of the option that ends here, if there is one."""


class OptionTree:
    """Tree of the tokens that follow the prompt in each of its options."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        """Build the tree from the tokens of the prompt with each option appended."""
        first = sequences[0]
        shared = min(shared_prefix_length(first, other) for other in sequences)
        self.prompt_tokens = list(first[:shared])
        """Tokens that all sequences share."""
        self._count = len(sequences)
        self._branches = list(_find_branches([tuple(tokens[shared:]) for tokens in sequences]))
        self.depth = max(len(branch.path) for branch in self._branches)
        """Maximum number of tokens between the prompt and a branch."""

    def probabilities(
        self, logits_after: Callable[[tuple[int, ...]], NDArray[np.float32]]
    ) -> tuple[float, ...]:
        """Return the probability of each option.

        `logits_after(path)` returns the logits of all tokens after the prompt and the tokens of
        `path`.
        """
        result = np.ones(self._count)
        for branch in self._branches:
            logits = logits_after(branch.path).astype(np.float64)
            scores = logits[list(branch.choices)]
            # Where an option ends, every other token ends the option.
            rivals = logits if branch.ended else scores
            probabilities = np.exp(scores - rivals.max()) / np.exp(rivals - rivals.max()).sum()
            for options, probability in zip(branch.choices.values(), probabilities, strict=True):
                result[options] *= probability
            result[branch.ended] *= max(0.0, 1.0 - probabilities.sum())
        return tuple(result.tolist())


def _find_branches(options: Sequence[tuple[int, ...]]) -> Iterator[_Branch]:
    pending = [(0, list(range(len(options))))]
    while pending:
        depth, members = pending.pop()
        choices: dict[int, list[int]] = {}
        ended = [member for member in members if len(options[member]) == depth]
        for member in members:
            if len(options[member]) > depth:
                choices.setdefault(options[member][depth], []).append(member)
        if len(choices) + len(ended) > 1:
            yield _Branch(options[members[0]][:depth], choices, ended)
        pending += [(depth + 1, group) for group in choices.values() if len(group) > 1]
