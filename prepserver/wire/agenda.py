"""Agenda of an interview, and the skills on which it is based."""

import enum
from typing import Annotated

from msgspec import Meta, Struct

from prepserver.wire.limits import MAX_ID, MAX_MINUTES, MAX_QUESTION, MAX_QUESTIONS, MAX_SKILL

__all__ = [
    "Agenda",
    "EditAgenda",
    "EditedTopic",
    "SkillEvidence",
    "Topic",
    "TopicKind",
    "TopicStatus",
    "Where",
]


class Where(enum.StrEnum):
    """Documents that name a skill."""

    JOB = "job"
    """The job description or the role; the resume does not name the skill."""
    RESUME = "resume"
    BOTH = "both"


class SkillEvidence(Struct, frozen=True, kw_only=True):
    """Skill with the words in which the documents name it."""

    name: str
    """Canonical name, or the document's own name for a skill that the question bank lacks."""
    spelling: str
    """Name as the document spells it: "PostgreSQL" for the skill "sql"."""
    also: list[str] = []
    """Other words of the documents that name the skill."""
    quote: str
    """Line or sentence that names the skill, of the job description if that names the skill."""
    where: Where
    level: str = ""
    """Words of the document for the level, such as "expert"; empty if there are none."""
    years: int = 0
    """Years of experience that the document states; 0 if it states none."""
    count: int = 1
    """Number of times that the documents name the skill."""


class TopicKind(enum.StrEnum):
    OPENING = "opening"
    TOPIC = "topic"
    CLOSING = "closing"


class TopicStatus(enum.StrEnum):
    PLANNED = "planned"
    CURRENT = "current"
    DONE = "done"


class Topic(Struct, frozen=True, kw_only=True):
    """Topic of the agenda: a main question, which follow-up questions may deepen."""

    id: str
    kind: TopicKind = TopicKind.TOPIC
    skill: str = ""
    """Skill that the topic is about; empty if it is about none in particular."""
    question: str
    """Main question as it is planned."""
    reason: str = ""
    """Line of the job description or the resume for which the topic was chosen; empty if the role
    alone suggests the topic."""
    where: Where | None = None
    """Document that contains `reason`."""
    minutes: int
    """Minutes planned for the topic."""
    status: TopicStatus = TopicStatus.PLANNED


class Agenda(Struct, frozen=True, kw_only=True):
    """Agenda of an interview."""

    topics: list[Topic]
    """Topics in order."""
    skills: list[SkillEvidence] = []
    """Skills that the role and the documents name, the most important first."""


class EditedTopic(Struct, frozen=True, kw_only=True):
    """Topic of an edited agenda."""

    id: Annotated[str, Meta(max_length=MAX_ID)] = ""
    """Id of a topic of the agenda; empty for a new topic."""
    question: Annotated[str, Meta(max_length=MAX_QUESTION)] = ""
    """New main question. If the field is empty, a topic keeps its question, and a new topic takes
    one from the question bank."""
    skill: Annotated[str, Meta(max_length=MAX_SKILL)] = ""
    """Skill of a new topic."""
    minutes: Annotated[int, Meta(ge=0, le=MAX_MINUTES)] = 0
    """Minutes for the topic; 0 leaves them unchanged."""


class EditAgenda(Struct, frozen=True, kw_only=True):
    """Body of `PUT /api/interviews/{id}/agenda`."""

    topics: Annotated[list[EditedTopic], Meta(max_length=MAX_QUESTIONS)]
    """All topics that are still planned, in the new order. Missing topics are removed."""
