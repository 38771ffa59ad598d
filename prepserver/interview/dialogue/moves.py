"""What the interviewer does next, and the record of what was asked and answered."""

import enum

from msgspec import Struct

from prepserver.wire.protocol import Intent

__all__ = ["AskedQuestion", "Assessed", "Move", "NextMove"]


class Move(enum.StrEnum):
    """Next step of the interviewer after an answer."""

    PROBE = "probe"
    """Ask for a point that the answer left out."""
    CONCRETE = "concrete"
    """Ask for something concrete, because the answer was vague."""
    DEEPER = "deeper"
    EASIER = "easier"
    NEXT = "next"
    """Open the next topic of the agenda."""
    CLOSE = "close"


class NextMove(Struct, frozen=True, kw_only=True):
    """Move that was decided, with the point of the answer that a probe asks for."""

    move: Move
    point: str = ""


class AskedQuestion(Struct, frozen=True, kw_only=True):
    """Question that was asked, and the move for which it was asked."""

    topic: str
    """Id of the topic."""
    move: Move
    point: str = ""
    question_id: str = ""
    """Id of the bank's question whose words were used; empty if the model wrote the question."""


class Assessed(Struct, frozen=True, kw_only=True):
    """What an answer was and covered."""

    intent: Intent
    relevance: float = 1.0
    vague: bool = False
    covered: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    """Words of the candidate for the points that are covered or touched, in this order."""
