"""What the clients of one interview see: its view, its phase, and the message being said."""

import msgspec
from msgspec import Struct

from prepserver.errors import Conflict, PrepServerError
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.steps import Step, phase_of
from prepserver.interview.turns.store import TurnStore
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ListUpdated", "Room"]


_UNLISTED = "unlisted"


class ListUpdated(Struct, frozen=True):
    """The user's list has taken over the view of this time."""

    updated_at: float


class _StreamedMessage(Struct):
    """A message that is being said, in the pieces that have left."""

    id: str
    kind: wire.MessageKind
    pieces: list[str]
    offset: int
    """Code points in the pieces."""


class Room:
    """Keeps the shown state and broadcasts its changes."""

    def __init__(self, context: Context, transcript: Transcript, turns: TurnStore) -> None:
        self._context = context
        self._transcript = transcript
        self._turns = turns
        self._saying: _StreamedMessage | None = None
        self._quota: wire.Quota | None = None

    # --- The interview as lists show it -------------------------------------------------------

    @property
    def view(self) -> wire.Interview:
        """Raises Conflict (`not_ready`) before the interview is begun."""
        view = self._context.storage.get("view", wire.Interview)
        if view is None:
            raise Conflict(
                "The interview is still being set up: connect again in a moment.",
                code=ErrorCode.NOT_READY,
                retryable=True,
            )
        return view

    def save(self, view: wire.Interview) -> None:
        changed = msgspec.structs.replace(view, updated_at=self._context.clock.now())
        self._context.storage.put("view", changed)
        self._context.storage.put(_UNLISTED, True)
        self._context.broadcast(wire.InterviewUpdated(interview=changed))
        self.tell_list()

    def count(self) -> None:
        """Bring the numbers of questions and answers up to date."""
        asked = self._transcript.count(wire.MessageKind.QUESTION)
        answered = self._transcript.count(wire.MessageKind.ANSWER)
        self.save(msgspec.structs.replace(self.view, asked=asked, answered=answered))

    def tell_list(self) -> None:
        owner = self._context.storage.get("owner", str)
        if owner is not None:
            news = ListUpdated(self.view.updated_at)
            self._context.tell(UserInterviewsStub(owner).update(self.view), then=news)

    @property
    def unlisted(self) -> bool:
        """The user's list may not know the latest yet."""
        return self._context.storage.get(_UNLISTED, bool) is not None

    def listed(self, news: ListUpdated) -> None:
        """The list knows what it was told; that may have been overtaken."""
        if news.updated_at == self.view.updated_at:
            self._context.storage.delete(_UNLISTED)

    # --- What is being said -------------------------------------------------------------------

    def say(self, turn: str, step: Step, text: str) -> None:
        """More of the message that the turn of this id is writing."""
        saying = self._saying
        if saying is None:
            kind = wire.MessageKind(step.value)
            saying = self._saying = _StreamedMessage(
                id=f"{turn}-{kind}", kind=kind, pieces=[], offset=0
            )
            delta = wire.Delta(message_id=saying.id, kind=kind, offset=0, text=text)
        else:
            delta = wire.Delta(offset=saying.offset, text=text)
        self._context.broadcast(delta)
        saying.pieces.append(text)
        saying.offset += len(text)

    def take_back(self) -> None:
        """What was being said does not count."""
        if self._saying is not None:
            self._context.broadcast(wire.DeltaDropped(message_id=self._saying.id))
            self._saying = None

    def said(self, message: wire.Message) -> None:
        """A message is whole and stored."""
        if self._saying is not None and self._saying.id == message.id:
            self._saying = None
        self._context.broadcast(wire.InterviewMessage(message=message))

    @property
    def _streaming(self) -> wire.StreamingMessage | None:
        saying = self._saying
        if saying is None:
            return None
        text = "".join(saying.pieces)
        return wire.StreamingMessage(
            id=saying.id, kind=saying.kind, text=text, offset=saying.offset
        )

    # --- State --------------------------------------------------------------------------------

    def show_phase(self) -> None:
        phase, failed = self._standing()
        self._context.broadcast(wire.StateChanged(state=phase, failed=failed))

    def _standing(self) -> tuple[wire.Phase, wire.Error | None]:
        """What is under way; when nothing is, why the last turn stopped, if it did."""
        active = self._turns.active()
        if active is not None:
            return phase_of(active.step), None
        unfinished = self._turns.unfinished()
        return phase_of(None), None if unfinished is None else unfinished.error

    def show_quota(self, quota: wire.Quota) -> None:
        self._quota = quota
        self._context.broadcast(
            wire.RateLimit(limit=quota.limit, remaining=quota.remaining, reset=quota.reset)
        )

    def greet(self, connection: Connection, version: str) -> None:
        """Hello and the whole truth, first on every connection."""
        attached = connection.state or {}
        if attached.get("quota"):
            self._quota = msgspec.convert(attached["quota"], wire.Quota)
        hello = wire.Hello(
            protocol=wire.PROTOCOL_VERSION,
            server=version,
            connection=connection.id,
            party="interview",
            room=self._context.name,
        )
        self._context.send(connection, hello)
        self.send_snapshot(connection)

    def send_snapshot(self, connection: Connection) -> None:
        phase, failed = self._standing()
        snapshot = wire.Snapshot(
            interview=self.view,
            state=phase,
            messages=self._transcript.messages(),
            streaming=self._streaming,
            hint=self._transcript.hint(),
            ratelimit=self._quota,
            failed=failed,
        )
        self._context.send(connection, snapshot)

    def refuse(self, connection: Connection, error: PrepServerError, id: str) -> None:
        """Answer one client's message with an error."""
        self._context.send(connection, wire.Failure(**error.as_dict(), id=id))
