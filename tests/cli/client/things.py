"""Interviews and messages for tests to speak of."""

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

_CANDIDATE = frozenset({MessageKind.ANSWER})


def interview(id: str = "i1", **changes: Any) -> Interview:
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


def said(position: int, kind: MessageKind = MessageKind.QUESTION, text: str = "Why?") -> Message:
    """A message whose id is `m` and its position."""
    candidate = kind in _CANDIDATE
    return Message(
        id=f"m{position}",
        role=Role.CANDIDATE if candidate else Role.INTERVIEWER,
        kind=kind,
        text=text,
        source=Source.TEXT if candidate else Source.MODEL,
        position=position,
        created_at=float(position),
    )
