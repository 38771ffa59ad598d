"""Joining of tokens into words with times."""

from prepserver.engines.whisper.word_timing import TimedToken, join_tokens


def test_tokens_are_joined_up_to_the_next_space() -> None:
    """A word includes its punctuation, and lasts from the start of its first token to the end of
    its last token."""
    words = join_tokens(
        [
            TimedToken(b" mon", 1.0, 1.2, 0.5),
            TimedToken(b"olith", 1.2, 1.5, 0.5),
            TimedToken(b",", 1.5, 1.6, 0.5),
            TimedToken(b" to", 1.7, 1.8, 0.25),
        ]
    )
    assert [(word.text, word.start, word.end) for word in words] == [
        ("monolith,", 1.0, 1.6),
        ("to", 1.7, 1.8),
    ]
    assert [round(word.probability, 3) for word in words] == [0.5, 0.25]


def test_a_character_may_span_two_tokens() -> None:
    """The bytes of tokens are joined before they are decoded; an incomplete character becomes
    U+FFFD."""
    accent = "é".encode()
    (cafe,) = join_tokens(
        [TimedToken(b" caf" + accent[:1], 0, 1, 1.0), TimedToken(accent[1:], 1, 2, 1.0)]
    )
    assert cafe.text == "café"
    (broken,) = join_tokens([TimedToken(b" caf" + accent[:1], 0, 1, 1.0)])
    assert broken.text == "caf\ufffd"


def test_word_times_never_decrease() -> None:
    """A word begins no earlier than the previous word ends, even if token times overlap."""
    words = join_tokens([TimedToken(b" a", 1.0, 2.0, 1.0), TimedToken(b" b", 1.5, 1.4, 1.0)])
    assert [(word.start, word.end) for word in words] == [(1.0, 2.0), (2.0, 2.0)]


def test_tokens_without_text_give_no_words() -> None:
    """Empty tokens and a single space give no words."""
    assert join_tokens([TimedToken(b"", 0, 1, 1.0), TimedToken(b" ", 1, 2, 1.0)]) == ()
