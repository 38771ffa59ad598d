"""Records of the conversation: what was asked, and what the answers covered."""

from msgspec import Struct

from prepserver.interview.dialogue.coverage import Assessment
from prepserver.interview.dialogue.decision import Move
from prepserver.wire.protocol import Intent

__all__ = ["AskedQuestion", "AssessedAnswer"]


class AskedQuestion(Struct, frozen=True, kw_only=True):
    """Question that was asked, and the move for which it was asked."""

    topic: str
    """Id of the topic."""
    move: Move
    question_id: str = ""
    """Id of the bank's question whose words were used; empty if the model wrote the question."""


class AssessedAnswer(Struct, frozen=True, kw_only=True):
    """What a message of the candidate was, and what it covered of the topic."""

    intent: Intent
    assessment: Assessment
