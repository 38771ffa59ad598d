"""Questions that belong to another craft than the role."""

import functools
import re
from collections.abc import Iterator, Sequence

from prepserver.evaluation.cases import Case
from prepserver.evaluation.records import InterviewRecord
from prepserver.evaluation.scripts import load_scripts
from prepserver.evaluation.words import fold_text
from prepserver.interview.prompts.wording import bare_question
from prepserver.interview.questions.bank import load_bank
from prepserver.interview.questions.families import ANY_FAMILY
from prepserver.wire.protocol import MessageKind

__all__ = ["foreign_craft", "foreign_questions"]

_OPEN_FAMILIES = frozenset({ANY_FAMILY, "internship"})
"""Families of questions that suit every craft."""


def foreign_questions(record: InterviewRecord) -> Iterator[Case]:
    """Judge each question: it fails if it belongs to a craft that is not the role's.

    It does if the bank gives it to other families only, or if it has a word of another craft that
    neither the documents nor an answer use.
    """
    known = fold_text(f"{record.role} {record.job_description} {record.resume}")
    for message in record.messages:
        if message.kind is MessageKind.ANSWER:
            known += f" {fold_text(message.text)}"
        elif message.kind is MessageKind.QUESTION:
            question = bare_question(message.text)
            craft = foreign_craft(question, record.crafts, known)
            yield Case(f"{craft} | {question}" if craft else question, bool(craft))


def foreign_craft(question: str, crafts: Sequence[str], known: str) -> str:
    """Return the families or the word by which a question belongs to a craft that is not in
    `crafts`; empty if there is none. `known` holds the folded text of the documents and the
    answers, whose words are allowed."""
    families = _bank_families().get(question, _OPEN_FAMILIES)
    if families.isdisjoint(_OPEN_FAMILIES.union(crafts)):
        return ", ".join(sorted(families))
    folded = fold_text(question)
    for craft, words in load_scripts().crafts.items():
        for word in words if craft not in crafts else ():
            pattern = rf"(?<!\w){re.escape(word)}(?!\w)"
            if re.search(pattern, folded) and not re.search(pattern, known):
                return word
    return ""


@functools.cache
def _bank_families() -> dict[str, frozenset[str]]:
    """Return the families of each question of the bank, by all of its forms."""
    return {
        text: frozenset(question.families)
        for question in load_bank().questions
        for text in (question.text, question.easier, question.harder, question.vague)
    }
