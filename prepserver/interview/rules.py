"""What a client may ask for at this point of an interview."""

from prepserver import protocol as wire
from prepserver.errors import BadRequest, Conflict
from prepserver.interview.phases import Step
from prepserver.interview.room import Room
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns import Turns
from prepserver.objects.object import Context

__all__ = ["Rules", "not_blank"]

_ONCE = (
    wire.UserMessage,
    wire.AudioStop,
    wire.HintRequest,
    wire.TurnStop,
    wire.TurnRetry,
    wire.MessageEdit,
    wire.InterviewEnd,
)
"""Messages whose effect must not be had twice; the ids of others are not kept."""


class Rules:
    """Each `require` raises Conflict with what to do instead."""

    def __init__(self, context: Context, room: Room, transcript: Transcript, turns: Turns) -> None:
        self._context = context
        self._room = room
        self._transcript = transcript
        self._turns = turns

    def require_open(self) -> None:
        if self._room.view.status is wire.Status.COMPLETED:
            raise Conflict("The interview is over. Start a new one.", code="completed")

    def require_question(self) -> None:
        self.require_open()
        active = self._turns.active()
        if active is not None and active.step is not Step.HINT:
            raise Conflict(
                "The interviewer is at work. Wait for the question, or stop the turn first.",
                code="busy",
                retryable=True,
            )
        if self._transcript.open_question() is None:
            raise Conflict(
                "No question is open. Try the stopped turn again with turn.retry.",
                code="no_question",
            )

    def was_applied(self, message: wire.ClientMessage) -> bool:
        """Whether a message with this id has had its effect already."""
        once = isinstance(message, (*_ONCE, wire.AudioStart))
        return bool(message.id) and once and self._known(message.id)

    def note(self, message: wire.ClientMessage) -> None:
        """The message has its effect in this transaction."""
        if message.id and isinstance(message, _ONCE):
            self._context.storage.sql(
                "INSERT OR IGNORE INTO applied VALUES (?, ?)", message.id, self._context.clock.now()
            )

    def _known(self, id: str) -> bool:
        storage = self._context.storage
        return storage.row("SELECT 1 FROM applied WHERE id = ?", id) is not None


def not_blank(text: str) -> str:
    """The text without what surrounds it. Raises BadRequest when nothing is left."""
    stripped = text.strip()
    if not stripped:
        raise BadRequest("The answer is empty: say something.", code="empty_answer")
    return stripped
