"""Relevance of an answer to its question: the share of the expected words that it has.

Words are compared by their stems, and weighted by their inverse document frequency in the question
bank, so that "latency" counts and "when" does not.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable

import snowballstemmer

from prepserver.interview.questions.bank import load_bank

__all__ = ["STOP_WORDS", "measure_relevance", "split_stems", "weigh"]

QUESTION_WEIGHT = 0.3
"""Weight of a word of the question; that of a word of a point is 1. Chosen on graded answers."""

_WORD = re.compile(r"[^\W_][\w+#]*")

_FUNCTION_WORDS = """
a about after again all also always am an and any anything are as at be because been before being
but by can could did do does doing done each either else even ever every everything few for from get
gets getting give go going good got had has have having he her here hers him his how i if in into is
it its itself just keep know less let like made make many may me might more most much must my need
needs never new no not nothing now of off often on once one only onto or other our out over own
people put really same say see she should since so some somebody someone something still such take
tell than that the their them then there these they thing things this those through to too under
until up us use used uses using very want was way ways we well went were what whatever when where
whether which while who whom whose why will with within without would yes yet you your yours
"""


@functools.lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    # A stemmer keeps the word in its attributes, so threads must not share one.
    return str(snowballstemmer.stemmer("english").stemWord(word))


def split_stems(text: str) -> list[str]:
    """Return the stems of the words of `text`, without function words."""
    words = _WORD.findall(text.casefold().replace("’", "'"))
    return [stem for word in words if (stem := _stem(word)) not in STOP_WORDS]


STOP_WORDS = frozenset(_stem(word) for word in _FUNCTION_WORDS.split())
"""Stems of words that say nothing about a subject."""


def weigh(stem: str) -> float:
    """Return the weight of a stem: 1 for a stem that the bank does not have, else less."""
    count, most = _frequencies().get(stem, 0), len(load_bank().questions)
    return math.log((most + 1) / (count + 1)) / math.log(most + 1)


def measure_relevance(question: str, points: Iterable[str], answer: str) -> float:
    """Return how much of what is expected the answer speaks of, from 0 to 1.

    It is the share of the expected stems, by weight, that occur in the answer. The words of the
    question count less than those of the points, since anybody can repeat them.
    """
    expected = {stem: QUESTION_WEIGHT * weigh(stem) for stem in split_stems(question)}
    expected |= {stem: weigh(stem) for point in points for stem in split_stems(point)}
    given = frozenset(split_stems(answer))
    total = sum(expected.values())
    found = sum(weight for stem, weight in expected.items() if stem in given)
    return found / total if total else 0.0


@functools.cache
def _frequencies() -> Counter[str]:
    """Return the number of questions of the bank in which each stem occurs."""
    frequencies: Counter[str] = Counter()
    for each in load_bank().questions:
        text = " ".join((each.text, *each.listen_for, each.easier, each.harder, each.vague))
        frequencies.update(set(split_stems(text)))
    return frequencies
