"""Hints in three steps."""

import pytest

from prepserver.interview.dialogue.hint_ladder import hint_text
from prepserver.interview.questions.bank import load_bank
from prepserver.wire.protocol import InterviewType

QUESTIONS = load_bank().questions


@pytest.mark.parametrize("level", [1, 2])
def test_the_first_two_hints_do_not_depend_on_the_question(level: int) -> None:
    """The first two hints are the same for all questions of a type, so they give nothing away."""
    hints = {(q.type, hint_text(level, q, "", InterviewType.MIXED)) for q in QUESTIONS}
    assert len(hints) == 3


def test_the_third_hint_names_a_point_that_is_missing() -> None:
    """The third hint names the first point that the draft does not touch."""
    for question in QUESTIONS:
        first = hint_text(3, question, "", InterviewType.MIXED)
        assert question.listen_for[0] in first
        draft = f"Well, {question.listen_for[0]} for one."
        second = hint_text(3, question, draft, InterviewType.MIXED)
        assert any(point in second for point in question.listen_for)


@pytest.mark.parametrize(
    ("type", "draft", "part"),
    [
        (InterviewType.BEHAVIOURAL, "We had a problem with the release.", "yourself"),
        (InterviewType.BEHAVIOURAL, "I called the customer and moved the date.", "turned out"),
        (InterviewType.TECHNICAL, "A lock keeps two threads apart.", "used it yourself"),
        (InterviewType.SYSTEM_DESIGN, "There is a queue and a worker.", "numbers"),
        (InterviewType.SYSTEM_DESIGN, "There are 500 requests a second.", "fails"),
    ],
)
def test_the_second_hint_names_the_missing_part(type: InterviewType, draft: str, part: str) -> None:
    """The second hint says which part of an answer of this type the draft lacks."""
    assert part in hint_text(2, None, draft, type)


@pytest.mark.parametrize("type", list(InterviewType))
@pytest.mark.parametrize("level", [-1, 0, 1, 2, 3, 4, 99])
@pytest.mark.parametrize("draft", ["", "x", "I " * 9_000])
def test_every_hint_is_a_statement(type: InterviewType, level: int, draft: str) -> None:
    """A hint of any level is one or two short sentences and no question."""
    for question in (None, QUESTIONS[0]):
        hint = hint_text(level, question, draft, type)
        assert hint.endswith(".")
        assert "?" not in hint
        assert len(hint) < 200
