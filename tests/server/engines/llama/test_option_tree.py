"""Probabilities of options, from the logits where the options part."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from prepserver.engines.llama.option_tree import OptionTree

PROMPT = [90, 91, 92]
VOCABULARY = 100


def logits_after(path: tuple[int, ...]) -> NDArray[np.float32]:
    """Return logits that depend on the path."""
    return np.random.default_rng(path).normal(0, 3, VOCABULARY).astype(np.float32)


def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(values.astype(np.float64))
    return np.asarray(weights / weights.sum())


def tree_of(*options: Sequence[int]) -> OptionTree:
    return OptionTree([[*PROMPT, *option] for option in options])


def test_options_that_differ_at_once_need_one_pass() -> None:
    """Options with different first tokens get the softmax of the logits after the prompt, however
    long they are."""
    tree = tree_of([1], [2, 3], [4, 5, 6])
    assert (tree.prompt_tokens, tree.depth) == (PROMPT, 0)
    paths: list[tuple[int, ...]] = []

    def recorded(path: tuple[int, ...]) -> NDArray[np.float32]:
        paths.append(path)
        return logits_after(path)

    probabilities = tree.probabilities(recorded)
    assert paths == [()]
    assert probabilities == pytest.approx(softmax(logits_after(())[[1, 2, 4]]))


def test_options_that_begin_alike_are_told_apart_where_they_part() -> None:
    """Two options with the same first token share that token's probability according to the logits
    after it."""
    tree = tree_of([1, 7], [1, 8], [2])
    assert tree.depth == 1
    first, second = softmax(logits_after(())[[1, 2]]), softmax(logits_after((1,))[[7, 8]])
    expected = (first[0] * second[0], first[0] * second[1], first[1])
    assert tree.probabilities(logits_after) == pytest.approx(expected)


def test_an_option_may_continue_another() -> None:
    """If an option continues another one, the shorter one gets the probability of all other tokens
    after it."""
    tree = tree_of([1], [1, 0], [2])
    first, longer = softmax(logits_after(())[[1, 2]]), softmax(logits_after((1,)))[0]
    expected = (first[0] * (1 - longer), first[0] * longer, first[1])
    assert tree.probabilities(logits_after) == pytest.approx(expected)


def test_tokens_that_all_options_share_belong_to_the_prompt() -> None:
    """Tokens with which all options begin are computed with the prompt."""
    tree = tree_of([5, 1], [5, 2])
    assert (tree.prompt_tokens, tree.depth) == ([*PROMPT, 5], 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_probabilities_add_up_to_one(seed: int) -> None:
    """The probabilities of random options of one to four tokens are positive and add up to 1."""
    random = np.random.default_rng(seed)
    options = {tuple(random.integers(0, 3, random.integers(1, 5)).tolist()) for _ in range(16)}
    probabilities = tree_of(*options).probabilities(logits_after)
    assert min(probabilities) > 0
    assert sum(probabilities) == pytest.approx(1)


def test_large_logits_do_not_overflow() -> None:
    """Logits of a thousand give probabilities of 1 and 0."""
    huge = np.zeros(VOCABULARY, np.float32)
    huge[2] = 1_000
    assert tree_of([1], [2]).probabilities(lambda path: huge) == pytest.approx((0, 1))
