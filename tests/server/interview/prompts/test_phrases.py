"""What a follow-up can be about: phrases that were really said."""

import re

import pytest

from prepserver.interview.prompts.phrases import MAX_WORDS, key_phrases
from prepserver.interview.questions.plan import is_same_question

ANSWERS = (
    "We moved the payment service from a monolith to event sourcing, and I led the migration "
    "of the ledger with two other engineers.",
    "My manager disagreed with the rollout plan, so I wrote a short proposal and we tested it "
    "on the staging cluster for a week.",
    "I don't know.",
    "",
)


def test_phrases_name_what_was_said() -> None:
    """Things with a name come out, small words do not."""
    phrases = key_phrases(ANSWERS[0])
    assert "the payment service" in phrases
    assert "the monolith" in phrases
    assert all(phrase.split()[-1] not in ("a", "the", "of", "and", "with") for phrase in phrases)


def test_my_becomes_your() -> None:
    """The interviewer speaks of the candidate's things as theirs."""
    phrases = key_phrases(ANSWERS[1])
    assert "your manager" in phrases
    assert not any(phrase.startswith("my ") for phrase in phrases)


@pytest.mark.parametrize("answer", ANSWERS)
def test_nothing_is_invented(answer: str) -> None:
    """Without its determiner every phrase is a piece of the answer."""
    for phrase in key_phrases(answer):
        bare = re.sub(r"^(the|your) ", "", phrase)
        assert bare in answer
        assert 1 <= len(bare.split()) <= MAX_WORDS


@pytest.mark.parametrize("answer", ["", "I don't know.", "Yes.", "12 34 !?", "ü ß 漢字"])
def test_an_answer_without_things_has_no_phrases(answer: str) -> None:
    """Then the follow-up must come from elsewhere."""
    assert key_phrases(answer) == []


def test_known_names_count_wherever_they_occur() -> None:
    """In the order given, in any case, but not inside other words."""
    assert key_phrases("we used Kafka, then c++ and Go.", ["kafka", "c++", "go", "java"])[:3] == [
        "kafka",
        "c++",
        "go",
    ]
    assert "go" not in key_phrases("it was good", ["go"])


def test_a_phrase_within_another_is_left_out() -> None:
    """The longer one says more."""
    phrases = key_phrases("the cluster and the staging cluster")
    assert phrases == ["the staging cluster"]


def test_no_more_than_asked_for() -> None:
    """The limit is kept, and the same answer gives the same phrases."""
    text = ". ".join(f"I fixed the {word} engine" for word in "red blue green black white".split())
    assert len(key_phrases(text, limit=2)) == 2
    assert key_phrases(text) == key_phrases(text)


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
def test_the_same_question_in_almost_the_same_words(one: str, other: str, same: bool) -> None:
    """Nine words of ten, in either order of the two."""
    assert is_same_question(one, other) is same
    assert is_same_question(other, one) is same


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("I watched the p99 latency.", "the p99 latency"),
        ("I sent my résumé.", "your résumé"),
        ("It was for the B2B customers.", "the B2B customers"),
        ("We met our team’s deadline.", "your team's deadline"),
    ],
)
def test_words_stay_whole(text: str, phrase: str) -> None:
    """Digits, accents and curly apostrophes belong to the word they stand in."""
    assert phrase in key_phrases(text)


def test_a_very_long_answer_costs_little() -> None:
    """Only as many phrases are compared as are kept."""
    words = " ".join(f"the widget{number} of the gadget{number}" for number in range(20_000))
    assert len(key_phrases(words, limit=6)) == 6
