"""Reduction of texts to stems and shingles."""

import pytest

from prepserver.evaluation.words import content_stems, shingles, split_words, stem


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("decide", "decided"),
        ("deciding", "decides"),
        ("test", "testing"),
        ("query", "queries"),
        ("plan", "planning"),
        ("customer", "customers"),
    ],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    """Forms of one word have the same stem."""
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other"), [("plan", "plant"), ("test", "text"), ("index", "input"), ("ward", "warm")]
)
def test_other_words_have_other_stems(one: str, other: str) -> None:
    """Words that only look alike have different stems."""
    assert stem(one) != stem(other)


def test_words_keep_the_marks_of_technical_names() -> None:
    """Technical names stay whole, and a possessive ending is dropped."""
    assert split_words("C++ and Node.js, the team’s CI/CD") == [
        "c++", "and", "node.js", "the", "team", "ci/cd",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "   ", "?!", "What was it that you did there?"])
def test_text_without_content_has_no_stems(text: str) -> None:
    """Texts of function words and punctuation have no content."""
    assert content_stems(text) == frozenset()


def test_shingles_of_a_short_text_are_the_text() -> None:
    """A text shorter than a shingle is one shingle, and an empty text has none."""
    assert shingles(["a", "b"], 3) == {("a", "b")}
    assert shingles([], 3) == frozenset()
    assert len(shingles("a b c d".split(), 3)) == 2
