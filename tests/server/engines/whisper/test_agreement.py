"""Text is stable once two passes in a row heard it."""

import pytest

from prepserver.engines.whisper.agreement import Agreement


def after(*texts: str) -> tuple[str, str]:
    """What is stable and what is not after these passes."""
    agreement = Agreement()
    for text in texts:
        agreement = agreement.heard(text)
    return agreement.committed, agreement.interim


@pytest.mark.parametrize(
    ("passes", "stable", "tentative"),
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
def test_the_longest_common_beginning_is_stable(
    passes: tuple[str, ...], stable: str, tentative: str
) -> None:
    """Of the last two passes, whatever came before them."""
    assert after(*passes) == (stable, tentative)


def test_capitals_and_commas_are_no_disagreement() -> None:
    """They change with what follows; the last way to write it counts."""
    assert after("In my last project I led", "in my last project, I led a team") == (
        "in my last project, I led",
        "a team",
    )


def test_words_made_of_marks_alone_are_compared_as_they_are() -> None:
    """A dash is not a comma."""
    assert after("so - yes", "so , yes") == ("so", ", yes")
