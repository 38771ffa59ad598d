"""Only whole characters, and never a stop string, leave the model."""

import pytest

from prepserver.engines.llama.detokenizer import Detokenizer


def pieces(stop: tuple[str, ...], *data: bytes) -> list[str]:
    streaming = Detokenizer(stop)
    return [*(streaming.feed(part) for part in data), streaming.finish()]


def test_text_without_doubt_is_given_at_once() -> None:
    """Nothing is held back when nothing can become a stop string."""
    assert pieces((), b"one ", b"two") == ["one ", "two", ""]


def test_a_character_is_never_cut() -> None:
    """The bytes of an emoji wait for each other."""
    data = "a🎉é".encode()
    parts = pieces((), *(data[n : n + 1] for n in range(len(data))))
    assert [part for part in parts if part] == ["a", "🎉", "é"]


def test_half_a_character_at_the_end_is_dropped() -> None:
    """A reply that is cut by its length does not end in a replacement character."""
    assert pieces((), b"ok ", "🎉".encode()[:3]) == ["ok ", "", ""]


def test_bytes_that_are_no_text_are_marked_and_do_not_stop_the_stream() -> None:
    """A model can write any byte."""
    assert "".join(pieces((), b"a\xffb")) == "a\ufffdb"


def test_a_stop_string_is_cut_off_with_what_follows() -> None:
    """What comes after the stop string in the same piece is gone too."""
    streaming = Detokenizer(("\n",))
    assert streaming.feed(b"A question?\nCandidate: yes") == "A question?"
    assert streaming.stopped
    assert streaming.feed(b"more") == ""
    assert streaming.finish() == ""


def test_a_stop_string_over_several_pieces_does_not_leak() -> None:
    """Its beginning is held back until it is certain what it is."""
    assert pieces(("Candidate:",), b"Why? Can", b"did", b"ate", b": I") == ["Why? ", "", "", "", ""]


def test_a_false_beginning_is_given_after_all() -> None:
    """Text that only looked like a stop string is not lost."""
    assert pieces(("Candidate:",), b"Can", b"ada") == ["", "Canada", ""]
    assert pieces(("Candidate:",), b"You Can") == ["You ", "Can"]


def test_the_first_of_several_stop_strings_counts() -> None:
    """Whichever comes first in the text, not in the list."""
    assert "".join(pieces(("###", "\n"), b"one\ntwo###")) == "one"


@pytest.mark.parametrize("size", range(1, 9))
def test_how_the_bytes_are_cut_makes_no_difference(size: int) -> None:
    """However the text arrives, the same text leaves."""
    data = "aab🎉aab aabaaac tail".encode()
    parts = [data[n : n + size] for n in range(0, len(data), size)]
    assert "".join(pieces(("aaac",), *parts)) == "aab🎉aab aab"


def test_an_empty_stop_string_is_ignored() -> None:
    """It would otherwise end every reply before it begins."""
    assert "".join(pieces(("",), b"text")) == "text"
