"""State that the clients of one interview see: view, phase and streamed message."""

import msgspec
from msgspec import Struct

from prepserver.errors import Conflict, PrepServerError
from prepserver.interview.dialogue_store import DialogueStore, is_agenda_hidden
from prepserver.interview.events import ListUpdated
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.steps import phase_of
from prepserver.interview.turns.store import Turn, TurnStore
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire
from prepserver.wire.agenda import Agenda
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Room"]

_LIST_UPDATE_PENDING = "list_update_pending"
"""Storage key that is present until the user's list has stored the latest view."""


class _StreamedMessage(Struct):
    """Message that the model is generating."""

    id: str
    kind: wire.MessageKind
    pieces: list[str]
    """Texts of the deltas that were broadcast."""
    offset: int
    """Number of code points in `pieces`."""


class Room:
    """State of one interview that its clients see. Each change is broadcast."""

    def __init__(
        self,
        context: Context,
        transcript: Transcript,
        turns: TurnStore,
        dialogue: DialogueStore,
    ) -> None:
        self._context = context
        self._dialogue = dialogue
        self._transcript = transcript
        self._turns = turns
        self._streamed: _StreamedMessage | None = None
        self._quota: wire.Quota | None = None

    # --- The interview as lists show it -------------------------------------------------------

    def require_started(self) -> wire.Interview:
        """Return the view of the interview. Raises Conflict (`not_ready`) before the interview
        begins."""
        view = self._context.storage.get("view", wire.Interview)
        if view is None:
            raise Conflict(
                "The interview is still being set up. Connect again in a moment.",
                code=ErrorCode.NOT_READY,
                retryable=True,
            )
        return view

    @property
    def view(self) -> wire.Interview:
        """View of the interview that lists show. Raises the error of `require_started`."""
        return self.require_started()

    def save_view(self, view: wire.Interview) -> None:
        """Store `view` with a new `updated_at`, and send it to the room and to the user's list."""
        changed = msgspec.structs.replace(view, updated_at=self._context.clock.now())
        self._context.storage.put("view", changed)
        self._context.storage.put(_LIST_UPDATE_PENDING, True)
        self._context.broadcast(wire.InterviewUpdated(interview=changed))
        self.update_list()

    def update_counts(self) -> None:
        """Count the questions and answers, and save the view with the new numbers."""
        asked = self._transcript.count(wire.MessageKind.QUESTION)
        answered = self._transcript.count(wire.MessageKind.ANSWER)
        self.save_view(msgspec.structs.replace(self.view, asked=asked, answered=answered))

    def update_list(self) -> None:
        """Send the view to the user's list; `ListUpdated` arrives once the list has stored it."""
        owner = self._context.storage.get("owner", str)
        if owner is not None:
            view = self.view
            done = ListUpdated(view.updated_at)
            self._context.tell(UserInterviewsStub(owner).update(view), then=done)

    @property
    def list_update_pending(self) -> bool:
        """True while the user's list may not have the latest view."""
        return self._context.storage.get(_LIST_UPDATE_PENDING, bool) is not None

    def on_list_updated(self, event: ListUpdated) -> None:
        """Clear the pending update, unless the view has changed since the update was sent."""
        if event.updated_at == self.view.updated_at:
            self._context.storage.delete(_LIST_UPDATE_PENDING)

    # --- The streamed message -----------------------------------------------------------------

    def stream_text(self, turn: Turn, text: str) -> None:
        """Broadcast `text` as the next delta of the message that `turn` is generating."""
        streamed = self._streamed
        if streamed is None:
            kind = wire.MessageKind(turn.step.value)
            streamed = self._streamed = _StreamedMessage(
                id=f"{turn.id}-{kind}", kind=kind, pieces=[], offset=0
            )
            delta = wire.Delta(message_id=streamed.id, kind=kind, offset=0, text=text)
        else:
            delta = wire.Delta(offset=streamed.offset, text=text)
        self._context.broadcast(delta)
        streamed.pieces.append(text)
        streamed.offset += len(text)

    def drop_stream(self) -> None:
        """Discard the streamed message on the server and on all clients."""
        if self._streamed is not None:
            self._context.broadcast(wire.DeltaDropped(message_id=self._streamed.id))
            self._streamed = None

    def broadcast_message(self, message: wire.Message) -> None:
        """Broadcast a stored message, which replaces a streamed message with the same id."""
        if self._streamed is not None and self._streamed.id == message.id:
            self._streamed = None
        self._context.broadcast(wire.InterviewMessage(message=message))

    @property
    def _streaming(self) -> wire.StreamingMessage | None:
        """Streamed message in the form that snapshots contain; None if no message is streamed."""
        streamed = self._streamed
        if streamed is None:
            return None
        text = "".join(streamed.pieces)
        return wire.StreamingMessage(
            id=streamed.id, kind=streamed.kind, text=text, offset=streamed.offset
        )

    # --- Agenda -------------------------------------------------------------------------------

    def require_visible_agenda(self) -> None:
        """Raise Conflict (`agenda_hidden`) in a real interview that is not over."""
        if is_agenda_hidden(self.view):
            raise Conflict(
                "The agenda of a real interview is hidden until the end.",
                code=ErrorCode.AGENDA_HIDDEN,
            )

    def agenda(self) -> Agenda:
        """Return the agenda, which has no topics before it is planned. Raises Conflict
        (`agenda_hidden`)."""
        self.require_visible_agenda()
        agenda = self._dialogue.agenda()
        return Agenda(topics=[]) if agenda is None else agenda.view

    def broadcast_agenda(self) -> None:
        """Broadcast the agenda unless it is hidden."""
        if not is_agenda_hidden(self.view):
            self._context.broadcast(wire.AgendaChanged(agenda=self.agenda()))

    @property
    def _visible_agenda(self) -> Agenda | None:
        """Agenda in the form that snapshots contain; None if it is hidden or not planned."""
        agenda = None if is_agenda_hidden(self.view) else self._dialogue.agenda()
        return agenda.view if agenda is not None and agenda.topics else None

    # --- State --------------------------------------------------------------------------------

    def broadcast_state(self) -> None:
        phase, failed = self._phase()
        self._context.broadcast(wire.StateChanged(state=phase, failed=failed))

    def _phase(self) -> tuple[wire.Phase, wire.Error | None]:
        """Return the phase and, if no turn is active, the error of the unfinished turn, if any."""
        active = self._turns.active()
        if active is not None:
            return phase_of(active.step), None
        unfinished = self._turns.unfinished()
        return phase_of(None), None if unfinished is None else unfinished.error

    def broadcast_quota(self, quota: wire.Quota) -> None:
        self._quota = quota
        self._context.broadcast(
            wire.RateLimit(limit=quota.limit, remaining=quota.remaining, reset=quota.reset)
        )

    def welcome(self, connection: Connection, version: str) -> None:
        """Send `hello` and the snapshot, which are the first messages on every connection."""
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
        phase, failed = self._phase()
        snapshot = wire.Snapshot(
            interview=self.view,
            state=phase,
            messages=self._transcript.messages(),
            streaming=self._streaming,
            hint=self._transcript.hint(),
            ratelimit=self._quota,
            failed=failed,
            agenda=self._visible_agenda,
        )
        self._context.send(connection, snapshot)

    def send_error(self, connection: Connection, error: PrepServerError, id: str) -> None:
        """Reject the message or the recording `id` of a client with an error."""
        self._context.send(connection, wire.Failure(**error.as_dict(), id=id))
