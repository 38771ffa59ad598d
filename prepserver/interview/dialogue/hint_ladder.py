"""Hints in three steps: how to build the answer, which part is missing, and a point to mention.

The first two steps do not give the answer away. The third does, so it is given only on request.
"""

import re

from prepserver.interview.dialogue.frames import Gap, lacks
from prepserver.interview.dialogue.prose import clean_answer
from prepserver.interview.questions.bank import Question
from prepserver.wire.protocol import InterviewType

__all__ = ["MAX_LEVEL", "hint_text"]

MAX_LEVEL = 3

_STRUCTURES = {
    InterviewType.BEHAVIOURAL: "Pick one case and tell it in order: the situation, your task, what "
    "you did yourself, and how it turned out.",
    InterviewType.TECHNICAL: "Say what you assume, then how it works step by step, then what it "
    "costs. An example from your own work makes it clearer.",
    InterviewType.SYSTEM_DESIGN: "Begin with what is required and with rough numbers, then name "
    "the parts, and end with what happens when one of them fails.",
    InterviewType.MIXED: "Begin with one sentence that answers the question, give an example from "
    "your own work, and end with what came of it.",
}

_PARTS: dict[InterviewType, tuple[tuple[Gap, str], ...]] = {
    InterviewType.BEHAVIOURAL: (
        (Gap.OWN_SHARE, "what you did yourself"),
        (Gap.RESULT, "how it turned out"),
        (Gap.REASON, "why you did it that way"),
        (Gap.CHECK, "how you knew that it had worked"),
        (Gap.LEARNING, "what you would do differently today"),
    ),
    InterviewType.TECHNICAL: (
        (Gap.EXAMPLE, "where you have used it yourself"),
        (Gap.REASON, "why it is done that way"),
        (Gap.ALTERNATIVE, "what else could be done, and what speaks for each way"),
        (Gap.RISK, "what can go wrong with it"),
    ),
    InterviewType.SYSTEM_DESIGN: (
        (Gap.NUMBERS, "how much it has to handle, in rough numbers"),
        (Gap.RISK, "what happens when a part of it fails"),
        (Gap.ALTERNATIVE, "what else you considered, and what speaks for each way"),
        (Gap.REASON, "why you chose those parts"),
    ),
}

_DETAIL = "Describe one moment that you remember well, or give one number that shows what you mean."


def hint_text(level: int, question: Question | None, draft: str, type: InterviewType) -> str:
    """Return the hint of a level, 1 to `MAX_LEVEL`; higher levels count as `MAX_LEVEL`.

    `question` is the bank's question, or None if the open question follows up on an answer. `draft`
    is the beginning of the answer, which may be empty. `type` is the interview's type.
    """
    if question is not None:
        type = question.type
    if level <= 1:
        return _STRUCTURES[type]
    if level == 2:
        return _missing_part(draft, type)
    return _point(question, draft)


def _missing_part(draft: str, type: InterviewType) -> str:
    parts = _PARTS.get(type, _PARTS[InterviewType.BEHAVIOURAL])
    text = clean_answer(draft)
    if not text:
        return f"Many answers leave out {parts[0][1]}, or {parts[1][1]}."
    for gap, part in parts:
        if lacks(gap, text):
            return f"You have not said yet {part}."
    return _DETAIL


def _point(question: Question | None, draft: str) -> str:
    """Return a hint that names the first point of a good answer that the draft does not touch."""
    if question is None:
        return _DETAIL
    said = _words(draft)
    points = question.listen_for
    point = next((each for each in points if not _words(each) & said), points[0])
    return f"Think about {point}."


def _words(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[^\W\d_]{4,}", text.lower())}
