"""Likeness of questions in meaning, by the words and pieces of words that they share."""

import itertools
import re
from collections.abc import Iterator, Sequence

from prepserver.interview.questions.question import Question

__all__ = ["LIKENESS", "find_similar"]

LIKENESS = 0.5
"""Share of common content words, or of common shingles, from which two questions count as the
same."""

_SHINGLE = 5
"""Length of a shingle in characters."""

_FUNCTION_WORDS = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have how if in is it
    its more most not of on one or out so than that the their them then there these they this
    those to up was were what when where which while who whom why will with would you your
    """.split()
)
_WORD = re.compile(r"[a-z0-9+#']+")


def find_similar(
    questions: Sequence[Question], others: Sequence[Question] = ()
) -> Iterator[tuple[Question, Question]]:
    """Yield the pairs of `questions`, and the pairs of one of `questions` and one of `others`, that
    ask for the same."""
    own = [(question, *_features(question.text)) for question in questions]
    other = [(question, *_features(question.text)) for question in others]
    for one, two in itertools.chain(itertools.combinations(own, 2), itertools.product(own, other)):
        if _jaccard(one[1], two[1]) >= LIKENESS or _jaccard(one[2], two[2]) >= LIKENESS:
            yield one[0], two[0]


def _features(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the stems of the content words, and the shingles of the text."""
    words = [word for word in _WORD.findall(text.lower()) if word not in _FUNCTION_WORDS]
    joined = " ".join(words)
    shingles = (joined[i : i + _SHINGLE] for i in range(max(1, len(joined) - _SHINGLE + 1)))
    return frozenset(map(_stem, words)), frozenset(shingles)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    return len(one & two) / (len(one | two) or 1)
