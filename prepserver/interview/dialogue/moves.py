"""What the interviewer does next, and the record of what was asked and answered."""

from msgspec import Struct

from prepserver.interview.dialogue.decision import MoveKind
from prepserver.wire.protocol import Intent

__all__ = ["AskedQuestion", "Assessed", "NextMove"]


class NextMove(Struct, frozen=True, kw_only=True):
    """Move that was decided, with the point of the answer that a probe asks for."""

    move: MoveKind
    point: str = ""


class AskedQuestion(Struct, frozen=True, kw_only=True):
    """Question that was asked, and the move for which it was asked."""

    topic: str
    """Id of the topic."""
    move: MoveKind
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
