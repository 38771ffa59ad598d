"""Rules for client messages: which requests are valid now, and which were handled before."""

import msgspec

from prepserver.errors import BadRequest, Conflict, PrepServerError
from prepserver.interview.room import Room
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.steps import Step
from prepserver.interview.turns.store import TurnStore
from prepserver.objects.object import Context
from prepserver.wire import client_messages as client
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Rules", "require_text"]

_APPLIED_ONCE = (
    client.UserMessage,
    client.AudioStop,
    client.HintRequest,
    client.CandidateRepeat,
    client.CandidateRephrase,
    client.CandidateSkip,
    client.CandidatePause,
    client.AgendaEdit,
    client.InterviewStart,
    client.TurnStop,
    client.TurnRetry,
    client.MessageEdit,
    client.InterviewEnd,
)
"""Types of messages that must not be applied twice. The ids of other messages are not stored."""

MAX_REJECTIONS = 256
"""Maximum number of rejections kept for each interview; prep's outbox holds as many messages."""


class Rules:
    """Rules that check requests against the interview's state and remember the replies.

    Each `require_` method raises Conflict with a message that says what to do instead.
    """

    def __init__(
        self, context: Context, room: Room, transcript: Transcript, turns: TurnStore
    ) -> None:
        self._context = context
        self._room = room
        self._transcript = transcript
        self._turns = turns

    def require_open(self) -> None:
        """Raise Conflict (`completed`) if the interview is over."""
        if self._room.view.status is wire.Status.COMPLETED:
            raise Conflict("The interview is over. Start a new one.", code=ErrorCode.COMPLETED)

    def require_question(self) -> None:
        """Raise Conflict if no question is open, or if a turn other than a hint is active."""
        self.require_open()
        active = self._turns.active()
        if active is not None and active.step is not Step.HINT:
            raise Conflict(
                "The interviewer is busy. Wait for the question, or stop the turn first.",
                code=ErrorCode.BUSY,
                retryable=True,
            )
        if self._room.view.status is wire.Status.PLANNED:
            raise Conflict(
                "The interview has not started. Start it with interview.start.",
                code=ErrorCode.NOT_STARTED,
            )
        if self._transcript.open_question() is None:
            raise Conflict(
                "No question is open. Retry the failed or stopped turn with turn.retry.",
                code=ErrorCode.NO_QUESTION,
            )

    @property
    def allows_hints(self) -> bool:
        """False in a real interview."""
        return self._room.view.mode is not wire.Mode.REAL

    def require_hints(self) -> None:
        """Raise Conflict (`no_hints`) in a real interview, and the errors of `require_question`."""
        if not self.allows_hints:
            raise Conflict("A real interview has no hints.", code=ErrorCode.NO_HINTS)
        self.require_question()

    def previous_reply(self, message: client.ClientMessage) -> wire.Accepted | wire.Failure | None:
        """Return the reply to an earlier message with the same id, or None if no reply is stored.

        Rejections are final. A client that missed a rejection may resend the message after a later
        message was accepted. Applying the resent message then would break the order.
        """
        id = message.id
        if not id or not isinstance(message, (*_APPLIED_ONCE, client.AudioStart)):
            return None
        storage = self._context.storage
        if storage.row("SELECT 1 FROM applied_messages WHERE id = ?", id) is not None:
            return wire.Accepted(id=id)
        rejected = storage.row("SELECT error FROM rejected_messages WHERE id = ?", id)
        if rejected is None:
            return None
        error = msgspec.json.decode(rejected[0], type=wire.Error)
        return wire.Failure(**msgspec.structs.asdict(error), id=id)

    def record_applied(self, message: client.ClientMessage) -> None:
        """Store the id of a message in the transaction that applies the message.

        Only the ids of messages that must not be applied twice are stored.
        """
        if message.id and isinstance(message, _APPLIED_ONCE):
            self._context.storage.sql(
                "INSERT OR IGNORE INTO applied_messages VALUES (?, ?)",
                message.id,
                self._context.clock.now(),
            )

    def record_rejection(self, message: client.ClientMessage, error: PrepServerError) -> None:
        """Store the error of a rejected message, so that a repeated message is rejected again.

        Only rejections of messages that must not be applied twice are stored. A rejection for
        missing frames is not stored, because the client sends the frames and then repeats the
        message.
        """
        if (
            not message.id
            or not isinstance(message, _APPLIED_ONCE)
            or error.code == ErrorCode.FRAMES_MISSING
        ):
            return
        storage = self._context.storage
        stored = msgspec.json.encode(wire.Error(**error.as_dict()))
        storage.sql(
            "INSERT OR IGNORE INTO rejected_messages (id, error) VALUES (?, ?)", message.id, stored
        )
        storage.sql(
            "DELETE FROM rejected_messages"
            " WHERE number <= (SELECT max(number) FROM rejected_messages) - ?",
            MAX_REJECTIONS,
        )


def require_text(text: str) -> str:
    """Return `text` without leading and trailing whitespace.

    Raises BadRequest (`empty_answer`) if the result is empty.
    """
    stripped = text.strip()
    if not stripped:
        raise BadRequest("The answer is empty. Type some text.", code=ErrorCode.EMPTY_ANSWER)
    return stripped
