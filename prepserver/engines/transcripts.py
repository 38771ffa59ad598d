"""Raw segments, as every speech engine returns them, and the hallucination filter.

Whisper invents text for silence and noise. The filter moves segments with such text out of the
transcript but keeps them, each with a drop reason, so that the candidate can restore them.
"""

import math
import re
import zlib
from collections.abc import Iterable, Sequence

from msgspec import Struct

from prepserver.engines.types import Segment, Word

__all__ = [
    "RawSegment",
    "confidence",
    "estimate_word_times",
    "filter_hallucinations",
    "geometric_mean",
    "is_repetitive",
    "strip_annotations",
]

MIN_PROBABILITY = 0.35
"""Mean token probability below which a segment is dropped as `unlikely`. Whisper's own threshold
for a temperature fallback is a mean log-probability of -1, which is a probability of 0.37. Clear
speech reaches 0.8 or more."""
UNINTELLIGIBLE_PROBABILITY = 0.2
"""Probability that counts for speech which the model describes instead of transcribing it."""
SAMPLED_PROBABILITY = 0.5
"""Maximum probability of a segment that was decoded at a raised temperature. Whisper divides its
scores by temperatures below 1, which makes every token look more probable than it is, and it does
so because the likeliest tokens made no sense."""
MAX_COMPRESSION_RATIO = 2.4
"""Compression ratio above which a text counts as repetition; the value is Whisper's own limit."""
MIN_COMPRESSED_BYTES = 100
"""Minimum size of a text, in bytes, for a meaningful compression ratio: short text never compresses
well."""
MAX_SEGMENT_WEIGHT = 100
"""Maximum weight of a segment in the confidence, in code points."""
MAX_PHRASE_WORDS = 12
"""Maximum length, in words, of a phrase that is checked for repetition."""

_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|♪[^♪]*♪?")
_UNINTELLIGIBLE = re.compile(
    r"[\[(*][^\])*]*(foreign|speak|talk|chatter|inaudible|indistinct|unintelligible)", re.IGNORECASE
)
"""Annotation of speech without its words, such as `(speaking in foreign language)`."""
_WORD = re.compile(r"[\w']+")


class RawSegment(Struct, frozen=True):
    """One segment as the model returned it, before filtering."""

    start: float
    """Start of the segment, in seconds from the beginning of the samples."""
    end: float
    text: str
    probability: float
    """Geometric mean of the text tokens' probabilities, 0 to 1; 1 if no probability is known."""
    sampled: bool = False
    """True if the text was decoded at a raised temperature."""
    words: tuple[Word, ...] = ()
    """Words with their times, in seconds from the beginning of the samples; empty if the engine
    reports none."""


def geometric_mean(probabilities: Sequence[float]) -> float:
    """Return the geometric mean of numbers from 0 to 1, or 1 for an empty sequence."""
    if not probabilities:
        return 1.0
    logs = [math.log(max(probability, 1e-9)) for probability in probabilities]
    return math.exp(math.fsum(logs) / len(logs))


def estimate_word_times(text: str, start: float, end: float) -> tuple[Word, ...]:
    """Return the words of a text with estimated times.

    The text was spoken from `start` to `end`, in seconds. This time is divided among the words in
    proportion to their lengths.
    """
    texts = text.split()
    letters = sum(len(each) for each in texts)
    words, before = [], 0
    for each in texts:
        word_start = start + (end - start) * before / letters
        before += len(each)
        word_end = start + (end - start) * before / letters
        words.append(Word(start=round(word_start, 3), end=round(word_end, 3), text=each))
    return tuple(words)


def filter_hallucinations(
    raw_segments: Iterable[RawSegment],
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Return the kept segments and the dropped segments, both in their original order."""
    kept: list[Segment] = []
    dropped: list[Segment] = []
    previous: list[str] = []
    for raw in raw_segments:
        text = strip_annotations(raw.text)
        words = _split_words(text)
        probability = min(raw.probability, SAMPLED_PROBABILITY) if raw.sampled else raw.probability
        if not words:
            drop_reason = "unintelligible" if _UNINTELLIGIBLE.search(raw.text) else "silence"
        elif probability < MIN_PROBABILITY:
            drop_reason = "unlikely"
        elif is_repetitive(text) or (len(words) > 2 and words == previous):
            drop_reason = "repetition"
        else:
            drop_reason = ""
            previous = words
        segment = Segment(
            start=raw.start,
            end=raw.end,
            text=text if words else raw.text.strip(),
            probability=probability,
            drop_reason=drop_reason,
            words=_without_annotations(raw.words) or estimate_word_times(text, raw.start, raw.end),
        )
        (dropped if drop_reason else kept).append(segment)
    return tuple(kept), tuple(dropped)


def confidence(segments: Iterable[Segment]) -> float:
    """Return the geometric mean of the segments' probabilities, weighted by their lengths; 1 if
    there is no speech. Segments with the drop reason `silence` are ignored."""
    total, weight = 0.0, 0
    for segment in segments:
        if segment.drop_reason == "silence":
            continue
        probability = segment.probability
        if segment.drop_reason == "unintelligible":
            probability = min(probability, UNINTELLIGIBLE_PROBABILITY)
        elif segment.drop_reason == "repetition":
            probability = min(probability, SAMPLED_PROBABILITY)
        # A loop repeats one phrase very often, and must not outweigh the words before it.
        length = min(len(segment.text), MAX_SEGMENT_WEIGHT)
        total += length * math.log(max(probability, 1e-9))
        weight += length
    return math.exp(total / weight) if weight else 1.0


def strip_annotations(text: str) -> str:
    """Return the text without Whisper's annotations of sounds other than speech.

    Annotations look like [BLANK_AUDIO], (music), *laughs* or ♪.
    """
    return " ".join(_ANNOTATION.sub(" ", text).split())


def _without_annotations(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return the words that are not part of an annotation."""
    text = " ".join(word.text for word in words)
    annotations = [match.span() for match in _ANNOTATION.finditer(text)]
    kept, begin = [], 0
    for word in words:
        end = begin + len(word.text)
        if not any(begin < last and first < end for first, last in annotations):
            kept.append(word)
        begin = end + 1
    return tuple(kept)


def is_repetitive(text: str) -> bool:
    """Return True if the text is mostly one repeated phrase, or compresses better than speech does.

    People stutter and say "no, no, no"; a decoder caught in a loop repeats a phrase more often.
    """
    data = text.lower().encode()
    if (
        len(data) >= MIN_COMPRESSED_BYTES
        and len(data) / len(zlib.compress(data)) > MAX_COMPRESSION_RATIO
    ):
        return True
    words = _split_words(text)
    return any(
        times >= (5 if size == 1 else 4) and times * size * 2 > len(words)
        for size in range(1, min(MAX_PHRASE_WORDS, len(words) // 4) + 1)
        if (times := _longest_run(words, size))
    )


def _longest_run(words: list[str], size: int) -> int:
    """Return the largest number of times that a phrase of `size` words occurs in a row."""
    longest = 0
    for offset in range(size):
        phrases = [words[n : n + size] for n in range(offset, len(words) - size + 1, size)]
        run = 0
        for n, phrase in enumerate(phrases):
            run = run + 1 if n and phrase == phrases[n - 1] else 1
            longest = max(longest, run)
    return longest


def _split_words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
