"""Main question of the bank."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from prepserver.wire.protocol import InterviewType, Level

__all__ = ["RULES", "Question", "parse_question"]

Sentence = Annotated[str, Meta(min_length=20, max_length=180, pattern=r"^[^?]+\?$")]

Phrase = Annotated[str, Meta(min_length=3, max_length=60, pattern=r"^[^.?!;]*[^.?!;\s]$")]


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Main question in the bank."""

    id: Annotated[str, Meta(max_length=40, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """Stable identifier, to which stored interviews refer."""
    type: InterviewType
    """Type of the interviews that ask the question; mixed interviews ask all types."""
    text: Annotated[str, Meta(min_length=40, max_length=180, pattern=r"^[^?]+\?$")]
    """Text of the question: one sentence that an interviewer could speak."""
    topic: Annotated[str, Meta(max_length=40, pattern=r"^\S+( \S+){0,4}$")]
    """Phrase that completes "Let us talk about ..."."""
    levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=3)]
    """Levels at which the question is asked."""
    skills: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4)]
    """Canonical names of the skills that the question is about."""
    families: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Role families whose people can answer the question, or `any` for people of every craft."""
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


_SENTENCE = "one sentence of 20 to 180 characters that ends with its only question mark"

RULES = {
    "id": "letters a to z, digits and single hyphens, at most 40 characters, such as my-first",
    "type": "behavioural, technical or system-design",
    "text": "one sentence of 40 to 180 characters that ends with its only question mark",
    "topic": "one to five words, at most 40 characters",
    "levels": "a list of one to three of junior, mid and senior",
    "skills": "a list of one to four skills",
    "families": 'a list of families of roles, such as ["any"]',
    "opener": "true or false",
    "closer": "true or false",
    "usual": "true or false",
    "listen_for": "a list of two to four phrases of 3 to 60 characters, without a full stop",
    "easier": _SENTENCE,
    "harder": _SENTENCE,
    "vague": _SENTENCE,
}
"""What each field must be."""

_FIELD = re.compile(r"`\$\.(\w+)|field `(\w+)`")


def parse_question(entry: Any) -> Question:
    """Parse the table of a question. Raises ValueError with a sentence that names the question and
    the field at fault."""
    if not isinstance(entry, dict):
        raise ValueError("A question is not a table. Begin each question with [[question]].")
    subject = f"The question {entry['id']!r}" if "id" in entry else "A question without `id`"
    try:
        return msgspec.convert(entry, Question)
    except msgspec.ValidationError as error:
        match = _FIELD.search(str(error))
        field = (match[1] or match[2]) if match else ""
        if field not in RULES:
            known = ", ".join(RULES)
            raise ValueError(
                f"{subject} has the unknown field `{field}`. Remove it; the fields are {known}."
            ) from error
        problem = "has a wrong" if field in entry else "lacks"
        raise ValueError(f"{subject} {problem} `{field}`: it must be {RULES[field]}.") from error
