"""Sentences about what an interview cannot do."""

import pytest

from prepcli.client.notes import language_note
from prepserver.wire.protocol import InterviewSpec
from tests.cli.client.builders import make_interview


@pytest.mark.parametrize(
    ("language", "model_set", "named"),
    [
        ("en", "starter", None),
        ("en", "standard", None),
        ("de", "standard", None),
        ("de", "custom", None),
        ("de", "starter", "German"),
        ("fr", "starter", "French"),
        ("zh", "starter", "Chinese"),
    ],
)
def test_the_english_set_is_named(language: str, model_set: str, named: str | None) -> None:
    """Only for an interview in another language on the English set, the note names the language and
    the command that helps."""
    note = language_note(
        InterviewSpec(language=language), make_interview("i1", model_set=model_set)
    )
    if named is None:
        assert note is None
    else:
        assert note is not None
        assert named in note
        assert "prep models use standard" in note
