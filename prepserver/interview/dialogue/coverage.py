"""What an answer covered: the points of a good answer, with the candidate's own words.

The rules know words and cues, not meaning. They prefer to miss a point that was made in other words
over finding one that was not made, since asking about a covered point annoys less than a claim.
"""

import enum
import re
from collections.abc import Sequence

from msgspec import Struct

from prepserver.interview.dialogue.cues import Cue, find_cues, wanted_cues
from prepserver.interview.dialogue.relevance import measure_relevance, split_stems, weigh

__all__ = ["Assessment", "Coverage", "CoveredPoint", "assess_answer"]

COVERED, TOUCHED = 0.55, 0.3
"""Minimum shares of a point's words, by weight, in one sentence that covers or touches it."""

CUE_SCORE, SUBJECT_SCORE = 0.25, 0.1
"""Gains of a sentence with a cue that the point asks for, and with a word of the subject."""

_CONCRETE = frozenset((Cue.OWN_SHARE, Cue.NUMBER, Cue.NAME, Cue.RESULT, Cue.TIME))

MAX_EVIDENCE = 160
"""Maximum length of a quote in code points."""

MAX_SENTENCES = 200
"""Number of sentences of an answer that are examined."""

STRENGTHS = frozenset(
    (Cue.OWN_SHARE, Cue.REASON, Cue.RESULT, Cue.CHECK, Cue.NUMBER, Cue.ALTERNATIVE, Cue.NAME)
)
"""Kinds of information that make an answer strong."""

STRONG_WORDS, STRONG_CUES = 30, 3
"""Minimum numbers of words, and of kinds of information, of a strong answer."""

VAGUE_WORDS = 12
"""Number of words below which an answer without a number or name is vague."""

_SENTENCE = re.compile(r"[^\s.?!;\n][^.?!;\n]*(?:[.?!;](?!\s|$)[^.?!;\n]*)*[.?!;]?")


class Coverage(enum.StrEnum):
    """Degree to which an answer speaks of a point."""

    COVERED = "covered"
    TOUCHED = "touched"
    MISSING = "missing"


class CoveredPoint(Struct, frozen=True):
    """Point of a good answer, and what the answer says about it."""

    point: str
    coverage: Coverage
    evidence: str = ""
    """Words of the answer, verbatim; empty if the point is missing."""


class Assessment(Struct, frozen=True, kw_only=True):
    """What an answer covered, and how concrete it was."""

    points: tuple[CoveredPoint, ...]
    relevance: float
    """Share of the expected words that the answer has, from 0 to 1."""
    vague: bool
    """True if nothing in the answer is concrete: no number, no name, nothing that was done."""
    cues: frozenset[Cue]
    """Kinds of information that the answer gives."""
    words: int
    """Number of words."""

    @property
    def strong(self) -> bool:
        """True if the answer is long, concrete in several ways, and has half of the points."""
        missing = sum(each.coverage is Coverage.MISSING for each in self.points)
        return (
            not self.vague
            and self.words >= STRONG_WORDS
            and len(self.cues & STRENGTHS) >= STRONG_CUES
            and 2 * missing <= len(self.points)
        )

    @property
    def open_points(self) -> tuple[str, ...]:
        """Points that a probe may ask for, the missing ones first."""
        missing = [each.point for each in self.points if each.coverage is Coverage.MISSING]
        return (
            *missing,
            *(each.point for each in self.points if each.coverage is Coverage.TOUCHED),
        )


def assess_answer(question: str, points: Sequence[str], answer: str) -> Assessment:
    """Return which of the points an answer covered.

    `points` are phrases that name parts of a good answer. The texts are compared by their English
    stems, so that of an answer in another language only names and numbers count.
    """
    sentences = [match.group().strip() for match in _SENTENCE.finditer(answer)][:MAX_SENTENCES]
    read = [_Sentence(text, frozenset(split_stems(text)), find_cues(text)) for text in sentences]
    subject = frozenset(split_stems(" ".join((question, *points))))
    cues = frozenset(cue for each in read for cue in each.cues)
    words = len(answer.split())
    return Assessment(
        points=tuple(_cover(point, read, subject) for point in points),
        relevance=measure_relevance(question, points, answer),
        vague=_is_vague(read, words),
        cues=cues,
        words=words,
    )


class _Sentence(Struct, frozen=True):
    """Sentence of an answer."""

    text: str
    stems: frozenset[str]
    cues: frozenset[Cue]


def _cover(point: str, sentences: Sequence[_Sentence], subject: frozenset[str]) -> CoveredPoint:
    """Return the coverage of a point by the sentence that speaks of it most."""
    stems = {stem: weigh(stem) for stem in split_stems(point)}
    wanted = wanted_cues(point)
    best, evidence = 0.0, ""
    for each in sentences:
        share = sum(weight for stem, weight in stems.items() if stem in each.stems)
        score = share / sum(stems.values()) if stems else 0.0
        if wanted & each.cues:
            score += CUE_SCORE if stems else COVERED
            score += SUBJECT_SCORE if each.stems & subject else 0.0
        if score > best:
            best, evidence = score, each.text
    if best < TOUCHED:
        return CoveredPoint(point, Coverage.MISSING)
    coverage = Coverage.COVERED if best >= COVERED else Coverage.TOUCHED
    return CoveredPoint(point, coverage, _shorten(evidence))


def _is_vague(sentences: Sequence[_Sentence], words: int) -> bool:
    """Return True if no sentence has a number, a name or something that the candidate did."""
    concrete = {cue for each in sentences for cue in each.cues} & _CONCRETE
    return not concrete or (words < VAGUE_WORDS and not concrete & {Cue.NUMBER, Cue.NAME})


def _shorten(sentence: str) -> str:
    """Return the beginning of a sentence, cut between words."""
    if len(sentence) <= MAX_EVIDENCE:
        return sentence
    return sentence[:MAX_EVIDENCE].rpartition(" ")[0] or sentence[:MAX_EVIDENCE]
