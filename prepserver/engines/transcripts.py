"""What whisper probably made up, and why one may think so.

Nothing is thrown away: what is doubted is set aside with a reason, so that the person who spoke
can take it back.
"""

import re
import zlib
from collections.abc import Iterable

from prepserver.engines.types import Segment, Word
from prepserver.engines.whisper.timing import spread
from prepserver.engines.whisper.transcriber import RawSegment

__all__ = ["filter_hallucinations", "repeats", "without_marks"]

UNLIKELY = 0.35
"""Mean probability of a token below which a segment is set aside. Whisper's own threshold for
trying again is a mean log-probability of -1, which is 0.37; clear speech has 0.8 and more."""
COMPRESSIBLE = 2.4
"""Whisper's own bound on how well text may compress before it counts as repetition."""
COMPRESSED = 100
"""Bytes from which that says anything: short text never compresses well."""
LONGEST_PHRASE = 12
"""Words of a phrase whose repetition is looked for."""

_MARK = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|♪[^♪]*♪?")
_WORD = re.compile(r"[\w']+")


def filter_hallucinations(
    heard: Iterable[RawSegment],
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """What is kept and what is set aside, both in the order of the recording."""
    kept: list[Segment] = []
    dropped: list[Segment] = []
    before: list[str] = []
    for each in heard:
        text = without_marks(each.text)
        words = _words(text)
        if not words:
            why = "silence"
        elif each.probability < UNLIKELY:
            why = "unlikely"
        elif repeats(text) or (len(words) > 2 and words == before):
            why = "repetition"
        else:
            why = ""
            before = words
        segment = Segment(
            start=each.start,
            end=each.end,
            text=text if words else each.text.strip(),
            probability=each.probability,
            drop_reason=why,
            words=_spoken(each.words) or spread(text, each.start, each.end),
        )
        (dropped if why else kept).append(segment)
    return tuple(kept), tuple(dropped)


def without_marks(text: str) -> str:
    """Without what whisper writes for sounds that are not speech: [BLANK_AUDIO], (music), ♪."""
    return " ".join(_MARK.sub(" ", text).split())


def _spoken(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """The words that are in `without_marks`; those of a mark go with it."""
    text = " ".join(word.text for word in words)
    marks = [found.span() for found in _MARK.finditer(text)]
    kept, begin = [], 0
    for word in words:
        end = begin + len(word.text)
        if not any(begin < last and first < end for first, last in marks):
            kept.append(word)
        begin = end + 1
    return tuple(kept)


def repeats(text: str) -> bool:
    """Whether one phrase, over and over, is most of the text.

    People say "no, no, no" and stutter; a decoder that is caught in a loop does not stop at
    that.
    """
    data = text.lower().encode()
    if len(data) >= COMPRESSED and len(data) / len(zlib.compress(data)) > COMPRESSIBLE:
        return True
    words = _words(text)
    return any(
        times >= (5 if size == 1 else 4) and times * size * 2 > len(words)
        for size in range(1, min(LONGEST_PHRASE, len(words) // 4) + 1)
        if (times := _most_in_a_row(words, size))
    )


def _most_in_a_row(words: list[str], size: int) -> int:
    """How often a phrase of `size` words follows itself, at most."""
    longest = 0
    for offset in range(size):
        phrases = [words[n : n + size] for n in range(offset, len(words) - size + 1, size)]
        run = 0
        for n, phrase in enumerate(phrases):
            run = run + 1 if n and phrase == phrases[n - 1] else 1
            longest = max(longest, run)
    return longest


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
