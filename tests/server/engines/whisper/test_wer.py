"""The measure that transcriptions are judged by is itself right."""

import pytest

from tests.support.wer import normalised, wer


@pytest.mark.parametrize(
    ("said", "written", "rate"),
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
def test_errors_are_counted_over_the_words_that_were_said(
    said: str, written: str, rate: float
) -> None:
    """Substitutions, deletions and insertions count one each; spelling does not."""
    assert wer(said, written) == rate


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
    """Digits and words of a number are the same."""
    assert normalised(number) == words.split()


def test_nothing_said_has_no_rate() -> None:
    """A rate over no words is no number."""
    with pytest.raises(ValueError, match="nothing was said"):
        wer("...", "words")
