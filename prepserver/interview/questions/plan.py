"""Choice of main questions, and criteria for acceptable questions."""

import re
from collections.abc import Sequence

from prepserver.interview.questions.bank import Bank, Question
from prepserver.wire.protocol import InterviewSpec

__all__ = [
    "is_acceptable_question",
    "is_same_question",
    "select_main_questions",
]

MIN_QUESTION_LENGTH, MAX_QUESTION_LENGTH = 15, 400
"""Minimum and maximum length of an acceptable question, in characters."""


def select_main_questions(
    bank: Bank, spec: InterviewSpec, skills: Sequence[str], seed: int
) -> tuple[Question, ...]:
    """Select the main questions for an interview, at least as many as its agenda has topics."""
    count = min(30, max(6, spec.questions))
    return tuple(bank.select_questions(spec.type, spec.level, skills, count, seed, role=spec.role))


def is_acceptable_question(text: str, asked: Sequence[str]) -> bool:
    """Return True if `text` is one question of acceptable length that was not asked before."""
    return (
        MIN_QUESTION_LENGTH <= len(text) <= MAX_QUESTION_LENGTH
        and text.endswith("?")
        and text.count("?") == 1
        and not any(is_same_question(text, earlier) for earlier in asked)
    )


def is_same_question(one: str, other: str) -> bool:
    """Return True if two questions share at least nine tenths of the words of the longer one."""
    first, second = _words(one), _words(other)
    if not first or not second:
        return one.strip().lower() == other.strip().lower()
    shared = len(first & second)
    return shared >= 0.9 * max(len(first), len(second))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))
