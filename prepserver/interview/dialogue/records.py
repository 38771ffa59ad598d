"""Records of the conversation: what was asked, and what the answers covered."""

from msgspec import Struct

from prepserver.interview.dialogue.coverage import Assessment
from prepserver.interview.dialogue.decision import Move
from prepserver.wire.protocol import Intent

__all__ = ["AskedQuestion", "AssessedAnswer"]


class AskedQuestion(Struct, frozen=True, kw_only=True):
    """Stored record of a question that was asked."""

    move: Move
    """Move for which it was asked."""


class AssessedAnswer(Struct, frozen=True, kw_only=True):
    """What a message of the candidate was, and what it covered of the topic."""

    intent: Intent
    assessment: Assessment
