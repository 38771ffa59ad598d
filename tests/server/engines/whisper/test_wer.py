"""Computation of word error rates."""

import pytest

from tests.support.wer import normalise, wer


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("one two three four", "one two three four", 0.0),
        ("one two three four", "one too three four", 0.25),
        ("one two three four", "one two four", 0.25),
        ("one two three four", "one two and three four", 0.25),
        ("one two", "", 1.0),
        ("one", "this is something else", 4.0),
        ("by forty percent", "By 40%.", 0.0),
        ("it's a side-by-side run", "It’s a side by side run!", 0.0),
    ],
)
def test_the_rate_is_errors_per_reference_word(
    reference: str, hypothesis: str, rate: float
) -> None:
    """The word error rate is the number of substituted, deleted and inserted words per word of the
    reference; case, punctuation and the notation of numbers are ignored."""
    assert wer(reference, hypothesis) == rate


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0", "zero"),
        ("17", "seventeen"),
        ("90", "ninety"),
        ("42", "forty two"),
        ("305", "three hundred five"),
        ("1,000", "one thousand"),
        ("12034", "twelve thousand thirty four"),
        ("2000001", "two million one"),
    ],
)
def test_numbers_are_spelt_out(number: str, words: str) -> None:
    """Normalising spells out a number that is written in digits."""
    assert normalise(number) == words.split()


def test_an_empty_reference_has_no_rate() -> None:
    """Computing the word error rate for a reference without words raises ValueError, since the rate
    is undefined."""
    with pytest.raises(ValueError, match="reference"):
        wer("...", "words")
