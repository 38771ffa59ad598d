"""The extraction of key phrases from an answer."""

import re

import pytest

from prepserver.interview.prompts.phrases import MAX_WORDS, key_phrases

ANSWERS = (
    "We moved the payment service from a monolith to event sourcing, and I led the migration "
    "of the ledger with two other engineers.",
    "My manager disagreed with the rollout plan, so I wrote a short proposal and we tested it "
    "on the staging cluster for a week.",
    "I don't know.",
    "",
)


def test_noun_phrases_of_the_answer_are_found() -> None:
    """Key phrases name things and never end in a function word."""
    phrases = key_phrases(ANSWERS[0])
    assert "the payment service" in phrases
    assert "the monolith" in phrases
    assert all(phrase.split()[-1] not in ("a", "the", "of", "and", "with") for phrase in phrases)


def test_my_becomes_your() -> None:
    """A possessive such as "my" is rewritten from the interviewer's point of view."""
    phrases = key_phrases(ANSWERS[1])
    assert "your manager" in phrases
    assert not any(phrase.startswith("my ") for phrase in phrases)


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_phrase_quotes_the_answer(answer: str) -> None:
    """Each phrase, without its determiner, occurs in the answer and has at most three words."""
    for phrase in key_phrases(answer):
        bare = re.sub(r"^(the|your) ", "", phrase)
        assert bare in answer
        assert 1 <= len(bare.split()) <= MAX_WORDS


@pytest.mark.parametrize("answer", ["", "I don't know.", "Yes.", "12 34 !?", "ü ß 漢字"])
def test_an_answer_without_nouns_has_no_phrases(answer: str) -> None:
    """An answer that names nothing has no key phrases."""
    assert key_phrases(answer) == []


def test_known_names_are_phrases_wherever_they_occur() -> None:
    """Known names match whole words regardless of capitalisation, and keep the given order."""
    assert key_phrases("we used Kafka, then c++ and Go.", ["kafka", "c++", "go", "java"])[:3] == [
        "kafka",
        "c++",
        "go",
    ]
    assert "go" not in key_phrases("it was good", ["go"])


def test_a_phrase_within_another_is_omitted() -> None:
    """If one phrase contains another, only the longer phrase is returned."""
    phrases = key_phrases("the cluster and the staging cluster")
    assert phrases == ["the staging cluster"]


def test_the_limit_is_kept() -> None:
    """At most `limit` phrases are returned, and equal answers give equal phrases."""
    text = ". ".join(f"I fixed the {word} engine" for word in "red blue green black white".split())
    assert len(key_phrases(text, limit=2)) == 2
    assert key_phrases(text) == key_phrases(text)


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
    """Digits, accents and curly apostrophes do not split a word."""
    assert phrase in key_phrases(text)


def test_a_very_long_answer_costs_little() -> None:
    """A very long answer takes little time, since each phrase is compared only with the few phrases
    kept so far."""
    words = " ".join(f"the widget{number} of the gadget{number}" for number in range(20_000))
    assert len(key_phrases(words, limit=6)) == 6
