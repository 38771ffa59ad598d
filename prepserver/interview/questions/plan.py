"""What the interview is about: skills, main questions from the bank, and what comes when."""

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

ENOUGH_SKILLS = 3
"""With fewer named in the documents, the model adds some that go with them."""

CLOSEST = 8
"""Skills that it chooses those from."""

FOLLOW_UPS = 2
"""After each main question from the bank, the model writes this many of its own."""

SHORTEST_QUESTION, LONGEST_QUESTION = 15, 400
"""Characters of an acceptable question."""


def named_skills(bank: Bank, spec: InterviewSpec) -> list[str]:
    """Skills that the role and the documents name, the most frequent first."""
    return bank.find_skills(f"{spec.role}\n{spec.job_description}\n{spec.resume}")


def skill_choices(bank: Bank, spec: InterviewSpec) -> list[str]:
    """What a model may choose from: what is named, and where that is little, what goes with it.

    Two skills go together when questions of the bank are about both.
    """
    named = named_skills(bank, spec)
    if len(named) >= ENOUGH_SKILLS:
        return named
    together = Counter(
        skill
        for question in bank.questions
        if (not set(named).isdisjoint(question.skills) if named else _anybody(question))
        for skill in question.skills
        if skill not in named
    )
    return [*named, *(skill for skill, _ in together.most_common(CLOSEST))]


def _anybody(question: Question) -> bool:
    """Whether anybody may be asked, whatever the role."""
    return question.type is InterviewType.BEHAVIOURAL


def merge_skills(bank: Bank, spec: InterviewSpec, extracted: Sequence[str]) -> list[str]:
    """What is named first if it is little, else the model's choice first, then the rest.

    A skill that is not among the choices is dropped.
    """
    named, choices = named_skills(bank, spec), skill_choices(bank, spec)
    chosen = [skill.strip().lower() for skill in extracted]
    known = [skill for skill in chosen if skill in choices]
    order = [*known, *named] if len(named) >= ENOUGH_SKILLS else [*named, *known]
    return list(dict.fromkeys(order))[:MAX_SKILLS]


def select_main_questions(
    bank: Bank, spec: InterviewSpec, skills: Sequence[str], seed: int
) -> tuple[Question, ...]:
    """Main questions for the whole interview, with some to choose from."""
    count = min(30, max(6, spec.questions))
    return tuple(bank.select(spec.type, spec.level, skills, count, seed))


def is_acceptable_question(text: str, asked: Sequence[str]) -> bool:
    """One question, of a sensible length, that was not asked before."""
    return (
        SHORTEST_QUESTION <= len(text) <= LONGEST_QUESTION
        and text.endswith("?")
        and text.count("?") == 1
        and not any(is_same_question(text, earlier) for earlier in asked)
    )


def is_same_question(one: str, other: str) -> bool:
    """Whether two questions ask the same: nine tenths of their words are shared."""
    first, second = _content(one), _content(other)
    if not first or not second:
        return one.strip().lower() == other.strip().lower()
    shared = len(first & second)
    return shared >= 0.9 * max(len(first), len(second))


def _content(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))
