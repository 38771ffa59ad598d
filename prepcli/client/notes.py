"""Sentences for people about what an interview cannot do."""

from prepserver.wire.languages import ENGLISH, LANGUAGES
from prepserver.wire.protocol import Interview, InterviewSpec

__all__ = ["language_note"]

ENGLISH_SET = "starter"
"""Set of models whose questions and whose speech recognition are in English only."""


def language_note(spec: InterviewSpec, interview: Interview) -> str | None:
    """Return a sentence if the models of a new interview do not know its language, else None."""
    if spec.language == ENGLISH or interview.model_set != ENGLISH_SET:
        return None
    return (
        f"The set {ENGLISH_SET} asks in English and understands only spoken English. For an "
        f"interview in {LANGUAGES[spec.language]}, use the set standard: prep models use standard"
    )
