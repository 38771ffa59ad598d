"""Sentences of a summary that are kept or dropped."""

import pytest

from prepserver.interview.dialogue.grounding import keep_supported

SAID = (
    "I moved our billing service from Oracle to Postgres in three weeks.",
    "We cut the errors by 40% and Mrs. O'Neill was happy. I like C++ and node.js.",
)
KEPT = (
    "You moved a billing service to Postgres.",
    "It took three weeks.",
    "The errors fell by 40%.",
    "Your work on Oracle pleased Mrs. O'Neill.",
    "You like C++ and node.js.",
    "You spoke about what I asked and I'd like to thank you.",
    "",
)
DROPPED = (
    "You know Kafka well.",
    "It took four weeks.",
    "The errors fell by 50%.",
    "MongoDB was your choice.",
    "You led the team at Google.",
    "You are good at kubernetes.",
    "You use gRPC.",
)


@pytest.mark.parametrize("text", KEPT)
def test_what_was_said_is_kept(text: str) -> None:
    """A sentence whose names and numbers occur in the answers is kept unchanged."""
    assert keep_supported(text, SAID, ["kubernetes"]) == text


@pytest.mark.parametrize("text", DROPPED)
def test_what_nobody_said_is_dropped(text: str) -> None:
    """A sentence is dropped if a name, number or skill in it occurs in no answer."""
    assert keep_supported(f"You answered. {text} Thank you.", SAID, ["kubernetes"]) == (
        "You answered. Thank you."
    )


def test_nothing_is_kept_without_answers() -> None:
    """Without answers, a sentence with a name is dropped and a sentence without stays."""
    assert keep_supported("You know Java. Thank you.", (), ()) == "Thank you."
