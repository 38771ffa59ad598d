"""Tokens become words with times."""

from prepserver.engines.types import Word
from prepserver.engines.whisper.timing import TimedToken, spread, words


def test_tokens_are_put_together_up_to_the_next_space() -> None:
    """Pieces of a word, its comma, and the time from the first to the last."""
    found = words(
        [
            TimedToken(b" mon", 1.0, 1.2, 0.5),
            TimedToken(b"olith", 1.2, 1.5, 0.5),
            TimedToken(b",", 1.5, 1.6, 0.5),
            TimedToken(b" to", 1.7, 1.8, 0.25),
        ]
    )
    assert [(word.text, word.start, word.end) for word in found] == [
        ("monolith,", 1.0, 1.6),
        ("to", 1.7, 1.8),
    ]
    assert [round(word.probability, 3) for word in found] == [0.5, 0.25]


def test_a_character_may_be_in_two_tokens() -> None:
    """Half a character is none; together they are one, and what never becomes one is marked."""
    accent = "é".encode()
    (cafe,) = words(
        [TimedToken(b" caf" + accent[:1], 0, 1, 1.0), TimedToken(accent[1:], 1, 2, 1.0)]
    )
    assert cafe.text == "café"
    (broken,) = words([TimedToken(b" caf" + accent[:1], 0, 1, 1.0)])
    assert broken.text == "caf\ufffd"


def test_times_never_run_backwards() -> None:
    """Whisper's guesses may; a word begins where the last one ended at the earliest."""
    found = words([TimedToken(b" a", 1.0, 2.0, 1.0), TimedToken(b" b", 1.5, 1.4, 1.0)])
    assert [(word.start, word.end) for word in found] == [(1.0, 2.0), (2.0, 2.0)]


def test_tokens_without_text_are_no_words() -> None:
    """Nor is a space."""
    assert words([TimedToken(b"", 0, 1, 1.0), TimedToken(b" ", 1, 2, 1.0)]) == ()


def test_words_without_times_share_the_time_of_their_segment() -> None:
    """In order, from its beginning to its end, by their length."""
    assert spread("to scale", 1.0, 8.0) == (
        Word(start=1.0, end=3.0, text="to"),
        Word(start=3.0, end=8.0, text="scale"),
    )
    assert spread("", 1.0, 2.0) == ()
