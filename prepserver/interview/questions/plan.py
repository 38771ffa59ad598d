"""Plan of an interview: skills, main questions, and criteria for acceptable questions."""

import re
from collections import Counter
from collections.abc import Sequence

from prepserver.interview.questions.bank import Bank, Question
from prepserver.wire.protocol import InterviewSpec, InterviewType

__all__ = [
    "is_acceptable_question",
    "is_same_question",
    "merge_skills",
    "select_main_questions",
    "skill_choices",
]

MAX_SKILLS = 6
"""Maximum number of skills in one interview."""

MIN_NAMED_SKILLS = 3
"""Number of named skills below which the model may add related skills."""

MAX_RELATED_SKILLS = 8
"""Maximum number of related skills among which the model may choose."""

FOLLOW_UPS = 2
"""Number of follow-up questions after each main question."""

MIN_QUESTION_LENGTH, MAX_QUESTION_LENGTH = 15, 400
"""Minimum and maximum length of an acceptable question, in characters."""


def _find_named_skills(bank: Bank, spec: InterviewSpec) -> list[str]:
    """Return the bank's skills that the role and the documents name, the most important first."""
    found = bank.find_evidence(spec.role, spec.job_description, spec.resume)
    return [evidence.name for evidence in found if evidence.name in bank.skills]


def skill_choices(bank: Bank, spec: InterviewSpec) -> list[str]:
    """Return the skills from which the model may choose, starting with the named skills.

    The named skills occur in the role or the documents. If there are fewer than `MIN_NAMED_SKILLS`
    named skills, up to `MAX_RELATED_SKILLS` related skills follow: those that are typical of the
    role or, for a role of an unknown craft, those that share the most bank questions with the named
    skills or occur in the most behavioural questions.
    """
    named = _find_named_skills(bank, spec)
    if len(named) >= MIN_NAMED_SKILLS:
        return named
    if typical := bank.typical_skills(spec.role):
        return list(dict.fromkeys((*named, *typical)))[: len(named) + MAX_RELATED_SKILLS]
    related = Counter(
        skill
        for question in bank.questions
        if (not set(named).isdisjoint(question.skills) if named else _suits_every_role(question))
        for skill in question.skills
        if skill not in named
    )
    return [*named, *(skill for skill, _ in related.most_common(MAX_RELATED_SKILLS))]


def _suits_every_role(question: Question) -> bool:
    return question.type is InterviewType.BEHAVIOURAL


def merge_skills(bank: Bank, spec: InterviewSpec, extracted: Sequence[str]) -> list[str]:
    """Merge the skills named in the role or the documents with the skills that the model extracted.

    If fewer than `MIN_NAMED_SKILLS` are named, the named skills come first; otherwise the extracted
    skills come first. An extracted skill that is not in `skill_choices` is dropped. If none is
    left, the skills are those that are typical of the role. The result has at most `MAX_SKILLS`
    skills.
    """
    named, choices = _find_named_skills(bank, spec), skill_choices(bank, spec)
    chosen = [skill.strip().lower() for skill in extracted]
    allowed = [skill for skill in chosen if skill in choices]
    order = [*allowed, *named] if len(named) >= MIN_NAMED_SKILLS else [*named, *allowed]
    return list(dict.fromkeys(order or bank.typical_skills(spec.role)))[:MAX_SKILLS]


def select_main_questions(
    bank: Bank, spec: InterviewSpec, skills: Sequence[str], seed: int
) -> tuple[Question, ...]:
    """Select the main questions for an interview, with spares among which the model can choose."""
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
