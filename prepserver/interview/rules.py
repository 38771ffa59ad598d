"""What a client may ask for at this point of an interview."""

import msgspec

from prepserver.errors import BadRequest, Conflict, PrepServerError
from prepserver.interview.room import Room
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.steps import Step
from prepserver.interview.turns.store import TurnStore
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

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

MAX_REJECTIONS = 256
"""Of each interview: as many messages as a client of prep may have waiting for an answer."""


class Rules:
    """Each `require` raises Conflict with what to do instead."""

    def __init__(
        self, context: Context, room: Room, transcript: Transcript, turns: TurnStore
    ) -> None:
        self._context = context
        self._room = room
        self._transcript = transcript
        self._turns = turns

    def require_open(self) -> None:
        if self._room.view.status is wire.Status.COMPLETED:
            raise Conflict("The interview is over. Start a new one.", code=ErrorCode.COMPLETED)

    def require_question(self) -> None:
        self.require_open()
        active = self._turns.active()
        if active is not None and active.step is not Step.HINT:
            raise Conflict(
                "The interviewer is at work. Wait for the question, or stop the turn first.",
                code=ErrorCode.BUSY,
                retryable=True,
            )
        if self._transcript.open_question() is None:
            raise Conflict(
                "No question is open. Try the stopped turn again with turn.retry.",
                code=ErrorCode.NO_QUESTION,
            )

    def answered(self, message: wire.ClientMessage) -> wire.Accepted | wire.Failure | None:
        """The answer that a message with this id has had already.

        A refusal stands too. A client that did not hear of it sends the message again behind a
        later one that was taken: what could not be said then would now be said out of order.
        """
        id = message.id
        if not id or not isinstance(message, (*_ONCE, wire.AudioStart)):
            return None
        storage = self._context.storage
        if storage.row("SELECT 1 FROM applied WHERE id = ?", id) is not None:
            return wire.Accepted(id=id)
        refused = storage.row("SELECT error FROM refused WHERE id = ?", id)
        if refused is None:
            return None
        error = msgspec.json.decode(refused[0], type=wire.Error)
        return wire.Failure(**msgspec.structs.asdict(error), id=id)

    def note(self, message: wire.ClientMessage) -> None:
        """The message has its effect in this transaction."""
        if message.id and isinstance(message, _ONCE):
            self._context.storage.sql(
                "INSERT OR IGNORE INTO applied VALUES (?, ?)", message.id, self._context.clock.now()
            )

    def note_refusal(self, message: wire.ClientMessage, error: PrepServerError) -> None:
        """The message has no effect, now or when it is sent again."""
        if (
            not message.id
            or not isinstance(message, _ONCE)
            or error.code == ErrorCode.FRAMES_MISSING
        ):
            return
        storage = self._context.storage
        stored = msgspec.json.encode(wire.Error(**error.as_dict()))
        storage.sql("INSERT OR IGNORE INTO refused (id, error) VALUES (?, ?)", message.id, stored)
        storage.sql(
            "DELETE FROM refused WHERE number <= (SELECT max(number) FROM refused) - ?",
            MAX_REJECTIONS,
        )


def not_blank(text: str) -> str:
    """The text without what surrounds it. Raises BadRequest when nothing is left."""
    stripped = text.strip()
    if not stripped:
        raise BadRequest("The answer is empty: say something.", code=ErrorCode.EMPTY_ANSWER)
    return stripped
