"""Words of a text, reduced so that two wordings of one thing can be compared."""

import re
from collections.abc import Sequence

__all__ = ["content_stems", "fold_text", "shingles", "split_words", "stem"]

STOP_WORDS = frozenset(
    """
    a about after again all also am an and any anyone anything are as at be because been before
    being both but by can could did do does doing done down each else ever every few first for
    from get give go goes going got had has have having he her here him his how i if in into is
    it its just last let like look made make many may me mean might more most much must my need
    next no not now of off on once one only or other our out over own part please put quite
    rather really right said same say says see she should show since so some someone something
    still such take tell than that the their them then there these they thing things this those
    through time to too two under until up us use used using very was way we well went were what
    when where which while who whom whose why will with without would yes yet you your yours
    yourself
    """.split()
)
"""Words that no question and no answer is about."""

_ENDINGS = (
    ("ational", "ate"), ("ization", "ize"), ("isation", "ize"), ("fulness", "ful"),
    ("ements", ""), ("ement", ""), ("ments", ""), ("ment", ""), ("ations", "at"), ("ation", "at"),
    ("ities", ""), ("ings", ""), ("ing", ""), ("ions", ""), ("ion", ""), ("ness", ""),
    ("ies", "y"), ("ity", ""), ("ers", ""), ("ors", ""), ("est", ""), ("ed", ""), ("er", ""),
    ("or", ""), ("ly", ""), ("es", ""), ("s", ""),
)  # fmt: skip

MIN_STEM = 3
"""Minimum length of a stem, in characters."""


def fold_text(text: str) -> str:
    """Return `text` in lower case, with plain apostrophes and single spaces."""
    return re.sub(r"\s+", " ", text.replace("’", "'").casefold()).strip()


def split_words(text: str) -> list[str]:
    """Return the words of `text` in lower case; a possessive ending is dropped."""
    found = re.findall(r"[^\W_]+(?:['+#./-][^\W_]+|[+#]+)*", fold_text(text))
    return [re.sub(r"'s$", "", word) for word in found]


def stem(word: str) -> str:
    """Return a word without its ending, so that "decide", "decided" and "deciding" are equal."""
    for ending, replacement in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM:
            word = word[: -len(ending)] + replacement
            break
    if len(word) > MIN_STEM and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > MIN_STEM else word


def content_stems(text: str) -> frozenset[str]:
    """Return the stems of the words that `text` is about."""
    return frozenset(
        stem(word)
        for word in split_words(text)
        if word not in STOP_WORDS and len(word) > 1 and not word.isdigit()
    )


def shingles(words: Sequence[str], size: int) -> frozenset[tuple[str, ...]]:
    """Return all runs of `size` words; a shorter text is one run."""
    if not words:
        return frozenset()
    last = max(1, len(words) - size + 1)
    return frozenset(tuple(words[start : start + size]) for start in range(last))
