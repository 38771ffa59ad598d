"""Actions that are restated from an answer."""

import pytest

from prepserver.interview.dialogue.clauses import find_clauses
from prepserver.interview.dialogue.prose import clean_answer

RESTATED = (
    ("I moved the writes to a queue.", "you moved the writes to a queue"),
    ("So um I I moved, you know, my service to our cluster because …", "you moved your service"),
    ("We gave the nurses a list and they used it.", "you gave the nurses a list"),
    ("I'd put a cache in front of it.", "you would put a cache in front of it"),
    ("I fixed the banner and sales went up.", "you fixed the banner"),
    ("I split it between search and Instagram.", "you split it between search and Instagram"),
    ("I CALLED THE SUPPLIER AGAIN AND AGAIN.", "you called the supplier"),
    ("Then I usually check the staffing first.", "you usually check the staffing first"),
    ("I built a stage that sent traffic to it.", "you built a stage"),
)  # fmt: skip

SILENT = (
    "I think that it is good.",
    "I was a nurse for five years.",
    "I noticed that the index was missing.",
    "I told you what I think of your question.",
    "I need the.",
    "I no have experience with this thing.",
    "It was moved by somebody.",
    "I'd moved to Berlin with them.",
    "I'd made a list with a photo of every plug.",
    "Me he dicho a mi mismo que no.",
)


@pytest.mark.parametrize(("answer", "expected"), RESTATED)
def test_an_action_is_restated_in_the_second_person(answer: str, expected: str) -> None:
    """The first action in the answer begins with these words in the second person."""
    found = find_clauses(clean_answer(answer))
    assert found
    assert found[0].text.startswith(expected)


@pytest.mark.parametrize("answer", SILENT)
def test_what_is_no_complete_action_is_left_out(answer: str) -> None:
    """Opinions, states, fragments and words to the interviewer are not restated."""
    assert find_clauses(clean_answer(answer)) == []


def test_a_clause_beside_the_point_is_weak() -> None:
    """A subordinate clause, and one that had to be cut, are marked as weak."""
    subordinate, main = find_clauses("When I prepared the bridge, I called the CFO straight away.")
    assert subordinate.weak
    assert not main.weak
