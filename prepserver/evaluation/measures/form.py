"""Form of the questions, and their repetition."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from prepserver.evaluation.cases import Case
from prepserver.evaluation.records import InterviewRecord
from prepserver.evaluation.words import content_stems, shingles, split_words, stem
from prepserver.interview.prompts.wording import bare_question
from prepserver.wire.protocol import MessageKind

__all__ = [
    "count_question_words",
    "is_repetition",
    "is_well_formed",
    "repeated_questions",
    "share_of_tic",
    "well_formed_questions",
]

MIN_WORDS = 3
"""Minimum number of words of a question with the sentences before it."""

MAX_WORDS = 40
"""Maximum number of words of a question without the sentences before it."""

MAX_BEFORE = 32
"""Maximum number of words before the question. An acknowledgement has at most twelve; a welcome,
which names the role, and a case that the question is about may be longer."""

SIZE = 3
"""Words per shingle."""

MIN_SHARED_STEMS = 0.75
"""Share of common stems from which two questions are the same in meaning."""

MIN_SHARED_SHINGLES = 0.8
"""Share of common shingles from which two questions are the same in wording."""

_MARKUP = re.compile(r"[<>{}\[\]`|*_]|^#|\\n|\n|\b(?:interviewer|candidate|assistant)\s*:", re.I)


def well_formed_questions(record: InterviewRecord) -> Iterator[Case]:
    """Judge each question: it passes if `is_well_formed` says so.

    Of the replies to requests, one with a question mark must have one only, at its end.
    """
    for message in record.of_kind(MessageKind.QUESTION, MessageKind.REPLY):
        text = message.text
        if message.kind is MessageKind.QUESTION:
            yield Case(text, not is_well_formed(text))
        else:
            yield Case(text, "?" in text.rstrip()[:-1])


def is_well_formed(text: str) -> bool:
    """Return True if `text` is one question.

    It has at most 40 words, begins with a capital, ends with the only question mark, and holds no
    markup, label or line break. At most 32 words stand before it.
    """
    question = bare_question(text)
    before = text.strip().removesuffix(question)
    return (
        text.count("?") == 1
        and text.strip().endswith("?")
        and len(text.split()) >= MIN_WORDS
        and len(question.split()) <= MAX_WORDS
        and len(before.split()) <= MAX_BEFORE
        and (question[0].isupper() or not question[0].isalpha())
        and not _MARKUP.search(text)
    )


def repeated_questions(record: InterviewRecord) -> Iterator[Case]:
    """Judge each question: it fails if it is a repetition of an earlier one of the interview."""
    earlier: list[str] = []
    for message in record.of_kind(MessageKind.QUESTION):
        text = bare_question(message.text)
        same = next((one for one in earlier if is_repetition(text, one)), None)
        yield Case(text if same is None else f"{text} | earlier: {same}", same is not None)
        earlier.append(text)


def is_repetition(one: str, other: str) -> bool:
    """Return True if two questions are the same in meaning.

    They are if three quarters of their stems are common and they have at least two, or if four
    fifths of their shingles of three words are common.
    """
    first, second = content_stems(one), content_stems(other)
    both, either = first & second, first | second
    if len(both) >= 2 and len(both) >= MIN_SHARED_STEMS * len(either):
        return True
    runs, others = (shingles([stem(w) for w in split_words(text)], SIZE) for text in (one, other))
    return len(runs & others) >= MIN_SHARED_SHINGLES * max(1, len(runs | others))


def count_question_words(records: Sequence[InterviewRecord]) -> list[int]:
    """Return the number of words of each question, without the sentences before it."""
    return [len(text.split()) for text in _questions(records)]


def share_of_tic(records: Sequence[InterviewRecord]) -> tuple[float | None, list[str]]:
    """Return the share of follow-up questions that begin with the most frequent three words, and
    the five most frequent beginnings with their numbers."""
    follow_ups = [
        bare_question(turn.next.text)
        for record in records
        for turn in record.follow_ups()
        if turn.next is not None
    ]
    starts = Counter(" ".join(text.split()[:3]) for text in follow_ups)
    if not starts:
        return None, []
    frequent = starts.most_common(5)
    return frequent[0][1] / len(follow_ups), [f"{start}: {number}" for start, number in frequent]


def _questions(records: Sequence[InterviewRecord]) -> Iterator[str]:
    of_each = (record.of_kind(MessageKind.QUESTION) for record in records)
    for message in itertools.chain.from_iterable(of_each):
        yield bare_question(message.text)
