"""The rules for the questions of an interview."""

import pytest

from prepserver.interview.questions.plan import is_acceptable_question, is_same_question


@pytest.mark.parametrize(
    ("text", "acceptable"),
    [
        ("How did you keep both systems in step?", True),
        ("How did you keep both systems in step", False),
        ("How? And why did you do it that way?", False),
        ("Why so?", False),
        ("What is it " + "that you did " * 40 + "there?", False),
    ],
)
def test_an_acceptable_question_has_one_question_mark_at_its_end(
    text: str, acceptable: bool
) -> None:
    """A question is acceptable only if it has exactly one question mark, at the end, and is neither
    too short nor too long."""
    assert is_acceptable_question(text, ()) is acceptable


def test_a_reworded_question_is_not_acceptable() -> None:
    """A question that differs from an earlier one only in case, word order or punctuation is not
    acceptable."""
    asked = ["How did you keep both systems in step?"]
    assert not is_acceptable_question("How did you keep both systems in step ?", asked)
    assert not is_acceptable_question("In step: how did you keep both systems?", asked)
    assert is_acceptable_question("How did you keep the queue in order?", asked)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What did you learn?", "What did you learn?", True),
        ("What did you learn?", "what did you LEARN", True),
        ("What did you learn?", "What did you earn?", False),
        (
            "How would you design a queue for ten million jobs a day?",
            "How would you design the queue for ten million jobs a day?",
            True,
        ),
        (
            "How would you design a queue for ten million jobs a day?",
            "How would you test a queue for ten million jobs?",
            False,
        ),
        ("?", "?", True),
        ("?", "What?", False),
        ("", "What?", False),
    ],
)
def test_questions_that_share_nine_tenths_of_their_words_are_the_same(
    one: str, other: str, same: bool
) -> None:
    """Two questions count as the same if they share at least nine tenths of the longer question's
    words, in whichever order they are compared."""
    assert is_same_question(one, other) is same
    assert is_same_question(other, one) is same
