"""Main question of the bank."""

from typing import Annotated

from msgspec import Meta, Struct

from prepserver.wire.protocol import InterviewType, Level

__all__ = ["Question"]

Sentence = Annotated[str, Meta(min_length=20, max_length=180, pattern=r"^[^?]+\?$")]

Phrase = Annotated[str, Meta(min_length=3, max_length=60, pattern=r"^[^.?!;]*[^.?!;\s]$")]


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Main question in the bank."""

    id: Annotated[str, Meta(max_length=40, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """Stable identifier, to which stored interviews refer."""
    type: InterviewType
    text: Annotated[str, Meta(min_length=40, max_length=180, pattern=r"^[^?]+\?$")]
    """Text of the question: one sentence that an interviewer could speak."""
    topic: Annotated[str, Meta(max_length=40, pattern=r"^\S+( \S+){0,4}$")]
    """Phrase that completes "Let us talk about ..."."""
    levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=3)]
    skills: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4)]
    families: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Role families whose people can answer the question, or `ANY_FAMILY`."""
    opener: bool = False
    """True if the question may start an interview."""
    closer: bool = False
    """True if the question may only end an interview."""
    usual: bool = False
    """True if nearly every interview asks the question, whatever the craft."""
    listen_for: Annotated[tuple[Phrase, ...], Meta(min_length=2, max_length=4)]
    """Phrases that name parts of a good answer; each completes "Think about ..."."""
    easier: Sentence
    """Smaller question on the subject, for a candidate who does not know an answer."""
    harder: Sentence
    """Harder question on the subject, for a candidate who answered well."""
    vague: Sentence
    """Question for something concrete, for a candidate whose answer was vague."""
