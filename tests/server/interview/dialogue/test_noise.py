"""Text without meaning."""

import pytest

from prepserver.interview.dialogue.noise import is_noise


@pytest.mark.parametrize(
    "text",
    [
        "[BLANK_AUDIO]",
        "(coughs)",
        "[Music]",
        "*sighs*",
        "♪♪",
        "um, uh",
        "asdf",
        "zzzz",
        "fghfgh",
        "?",
    ],
)
def test_noise_is_recognised(text: str) -> None:
    """Sounds, fillers, repeated letters and neighbouring keys are noise."""
    assert is_noise(text)


@pytest.mark.parametrize(
    "text",
    [
        "(yes)",
        "*args",
        "<div>",
        "[1, 2]",
        "(1)",
        "(SRP)",
        "[O(n)]",
        "*p",
        "AAAA",
        "C",
        "TDD",
        "rsync",
    ],
)
def test_short_answers_are_not_noise(text: str) -> None:
    """Code, abbreviations and answers in brackets are no noise."""
    assert not is_noise(text)
