"""Functions that build interviews and messages for tests."""

from typing import Any

from prepserver.wire.protocol import (
    Interview,
    InterviewType,
    Level,
    Message,
    MessageKind,
    Role,
    Source,
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
    candidate = kind is MessageKind.ANSWER
    return Message(
        id=f"m{position}",
        role=Role.CANDIDATE if candidate else Role.INTERVIEWER,
        kind=kind,
        text=text,
        source=Source.TEXT if candidate else Source.MODEL,
        position=position,
        created_at=float(position),
    )
