"""Functions that build interviews and messages for tests."""

from typing import Any

from prepserver.wire.agenda import Agenda, Topic, TopicStatus
from prepserver.wire.protocol import (
    Interview,
    InterviewType,
    Level,
    Message,
    MessageKind,
    Role,
    Source,
    speaker_of,
)


def make_interview(id: str = "i1", **changes: Any) -> Interview:
    """Return an active interview with two questions; `changes` replace some of the fields."""
    values: dict[str, Any] = {
        "id": id,
        "title": "Backend Engineer",
        "role": "Backend Engineer",
        "company": "",
        "type": InterviewType.TECHNICAL,
        "level": Level.MID,
        "questions": 2,
        "created_at": 1.0,
        "updated_at": 1.0,
    }
    return Interview(**{**values, **changes})


def make_message(
    position: int, kind: MessageKind = MessageKind.QUESTION, text: str = "Why?"
) -> Message:
    """Return a message whose id is `m` followed by its position."""
    candidate = speaker_of(kind) is Role.CANDIDATE
    return Message(
        id=f"m{position}",
        role=speaker_of(kind),
        kind=kind,
        text=text,
        source=Source.TEXT if candidate else Source.MODEL,
        position=position,
        created_at=float(position),
    )


def make_topic(number: int, status: TopicStatus = TopicStatus.PLANNED, **changes: Any) -> Topic:
    """Return a topic whose id is `t` followed by its number."""
    values: dict[str, Any] = {
        "id": f"t{number}",
        "question": f"Question {number}?",
        "minutes": 3,
        "status": status,
    }
    return Topic(**{**values, **changes})


def make_agenda(topics: int) -> Agenda:
    """Return an agenda with this number of planned topics."""
    return Agenda(topics=[make_topic(number) for number in range(1, topics + 1)])
