"""Committed text, on which two consecutive passes agree."""

import pytest

from prepserver.engines.whisper.agreement import Agreement


def after_passes(*texts: str) -> tuple[str, str]:
    """Return the committed and the interim text after passes that give `texts`."""
    agreement = Agreement()
    for text in texts:
        agreement = agreement.after_pass(text)
    return agreement.committed, agreement.interim


@pytest.mark.parametrize(
    ("passes", "committed", "interim"),
    [
        ((), "", ""),
        (("I would",), "", "I would"),
        (("I would", "I would add"), "I would", "add"),
        (("I would at", "I would add an"), "I would", "add an"),
        (("add", "I would add"), "", "I would add"),
        (("I would add", "I would"), "I would", ""),
        (("a b c", "a x c", "a x c d"), "a x c", "d"),
        (("one two", "", "one two"), "", "one two"),
    ],
)
def test_the_longest_common_prefix_is_committed(
    passes: tuple[str, ...], committed: str, interim: str
) -> None:
    """The longest prefix on which the last two passes agree is committed."""
    assert after_passes(*passes) == (committed, interim)


def test_case_and_punctuation_are_ignored() -> None:
    """Case and punctuation do not prevent agreement, and the spelling of the last pass is
    committed."""
    assert after_passes("In my last project I led", "in my last project, I led a team") == (
        "in my last project, I led",
        "a team",
    )


def test_words_of_punctuation_alone_are_compared_literally() -> None:
    """A dash and a comma that are words on their own do not agree."""
    assert after_passes("so - yes", "so , yes") == ("so", ", yes")
