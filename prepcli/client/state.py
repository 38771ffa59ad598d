"""The client's copy of a room's state, and the pure functions that update the copy.

`apply(state, event)` returns the next state. Offsets count code points, as `len` of a str does.
"""

import enum

from msgspec import Struct
from msgspec.structs import replace

from prepserver.wire.agenda import Agenda
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    AgendaChanged,
    Caption,
    Delta,
    DeltaDropped,
    Error,
    Failure,
    Interview,
    InterviewCreated,
    InterviewDeleted,
    InterviewMessage,
    InterviewUpdated,
    Message,
    MessageKind,
    ModelFetch,
    ModelsFetched,
    Phase,
    Quota,
    RateLimit,
    ServerMessages,
    Snapshot,
    StateChanged,
    Status,
    StreamingMessage,
)

__all__ = [
    "ConnectionChanged",
    "ConnectionStatus",
    "RoomEvent",
    "RoomState",
    "apply",
    "is_completed",
    "is_planned",
    "needs_snapshot",
    "open_question",
]


class ConnectionStatus(enum.StrEnum):
    """State of the connection to a room."""

    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    """State in which the client waits for the next attempt to connect."""
    CLOSED = "closed"
    """Final state: the room has ended, for example because it was deleted."""
    UNAUTHORIZED = "unauthorized"
    """Final state: the user must log in again."""


class ConnectionChanged(Struct, frozen=True):
    """Event created by the client when the status of the connection has changed."""

    status: ConnectionStatus
    retry_in: float | None = None
    """Seconds until the next attempt to connect; None unless `status` is `OFFLINE`."""


RoomEvent = ServerMessages | ConnectionChanged
"""Event that a room yields: a message from the server, or a change of the connection."""


class RoomState(Struct, frozen=True, kw_only=True):
    """State of a room as the client knows it."""

    interview: Interview | None = None
    phase: Phase = Phase.IDLE
    messages: tuple[Message, ...] = ()
    """The transcript, ordered by position."""
    streaming: StreamingMessage | None = None
    """The message that is being generated."""
    hint: Message | None = None
    """Hint for the open question."""
    quota: Quota | None = None
    failed: Error | None = None
    """Error that ended the last turn; None if the turn did not fail. `turn.retry` repeats a failed
    turn."""
    doubt: Error | None = None
    """Error `speech_doubtful` of the last recording; None if no recording since the last answer was
    doubtful."""
    caption: str = ""
    """Partial transcript of the open recording."""
    connection: ConnectionStatus = ConnectionStatus.CONNECTING
    retry_in: float | None = None
    last_error: Failure | None = None
    interviews: tuple[Interview, ...] = ()
    """The user's interviews, newest first; empty unless the room's party is `user-interviews`."""
    fetch: ModelFetch | None = None
    """Models that the server fetches in the background."""
    deleted: bool = False
    """True once the interview has been deleted."""
    stale: bool = False
    """True while a requested snapshot has not arrived."""
    agenda: Agenda | None = None
    """Agenda; None before it is planned, and in a real interview before the end."""
    known: bool = False
    """True once a snapshot has arrived."""


_BETWEEN = (MessageKind.HINT, MessageKind.REQUEST, MessageKind.REPLY)
"""Kinds of messages that leave the question open."""


def is_completed(state: RoomState) -> bool:
    """Return True if the interview is completed."""
    return state.interview is not None and state.interview.status is Status.COMPLETED


def is_planned(state: RoomState) -> bool:
    """Return True if the agenda is ready and the interview waits for its start."""
    return state.interview is not None and state.interview.status is Status.PLANNED


def open_question(state: RoomState) -> Message | None:
    """Return the question that waits for an answer, or None if there is none.

    A question is open if only hints, requests and replies follow it and the interview is active.
    """
    if is_completed(state):
        return None
    for message in reversed(state.messages):
        if message.kind not in _BETWEEN:
            return message if message.kind is MessageKind.QUESTION else None
    return None


def needs_snapshot(state: RoomState, event: RoomEvent) -> bool:
    """Return True if the event reveals a gap, so that a snapshot must be requested.

    Must be called before `apply`. The result is False while a requested snapshot is on its way, so
    that each gap causes one request.
    """
    return not state.stale and _reveals_gap(state, event)


def apply(state: RoomState, event: RoomEvent) -> RoomState:
    """Return the state after an event. `state` itself is not modified."""
    if _reveals_gap(state, event):
        state = replace(state, stale=True)
    match event:
        case ConnectionChanged(status=status, retry_in=retry_in):
            # A snapshot requested on a lost connection never arrives.
            return replace(state, connection=status, retry_in=retry_in, stale=False)
        case Snapshot():
            return _apply_snapshot(state, event)
        case StateChanged(state=phase, failed=failed):
            caption = state.caption if phase is Phase.TRANSCRIBING else ""
            streaming = None if phase is Phase.IDLE else state.streaming
            changed = replace(state, phase=phase, caption=caption, streaming=streaming)
            return _with_failure(changed, failed)
        case InterviewMessage(message=message):
            return _apply_message(state, message)
        case Delta():
            return _apply_delta(state, event)
        case DeltaDropped(message_id=id):
            dropped = state.streaming is not None and state.streaming.id == id
            return replace(state, streaming=None) if dropped else state
        case AgendaChanged(agenda=agenda):
            return replace(state, agenda=agenda)
        case Caption(text=text):
            return replace(state, caption=text)
        case RateLimit(limit=limit, remaining=remaining, reset=reset):
            return replace(state, quota=Quota(limit=limit, remaining=remaining, reset=reset))
        case InterviewCreated(interview=interview) | InterviewUpdated(interview=interview):
            if state.interview is not None and state.interview.id == interview.id:
                return replace(state, interview=interview)
            return replace(state, interviews=_update_list(state.interviews, interview))
        case InterviewDeleted(interview_id=id):
            return _apply_deletion(state, id)
        case ModelsFetched(fetch=fetch):
            return replace(state, fetch=fetch)
        case Failure():
            return replace(state, last_error=event)
        case _:
            return state


def _reveals_gap(state: RoomState, event: RoomEvent) -> bool:
    if not isinstance(event, Delta):
        return False
    base = _streaming_before(state.streaming, event)
    return base is None and not _has_message(state, event.message_id)


def _streaming_before(streaming: StreamingMessage | None, delta: Delta) -> StreamingMessage | None:
    """Return the streamed message that a delta extends: an empty message for a first delta, or None
    if the delta does not continue the streamed message."""
    if delta.offset == 0 and delta.kind is not None:
        return StreamingMessage(id=delta.message_id, kind=delta.kind, text="", offset=0)
    return streaming if streaming is not None and streaming.offset == delta.offset else None


def _has_message(state: RoomState, id: str) -> bool:
    return any(message.id == id for message in state.messages)


def _apply_snapshot(state: RoomState, snapshot: Snapshot) -> RoomState:
    """Return the state described by a snapshot. The caption and the fields that only the client
    knows are copied from `state`, except `stale`, which becomes False."""
    shown = RoomState(
        interview=snapshot.interview,
        phase=snapshot.state or Phase.IDLE,
        messages=_by_position(snapshot.messages),
        streaming=snapshot.streaming,
        hint=snapshot.hint,
        quota=snapshot.ratelimit,
        # A recording may be open, and its caption on the screen.
        caption=state.caption,
        connection=state.connection,
        retry_in=state.retry_in,
        last_error=state.last_error,
        interviews=tuple(snapshot.interviews or ()),
        fetch=snapshot.fetch,
        deleted=state.deleted,
        agenda=snapshot.agenda,
        known=True,
    )
    return _with_failure(shown, snapshot.failed)


def _with_failure(state: RoomState, error: Error | None) -> RoomState:
    """Return a copy with the error of the last turn. A doubtful recording needs an answer rather
    than a retry."""
    if error is not None and error.code == ErrorCode.SPEECH_DOUBTFUL:
        return replace(state, failed=None, doubt=error)
    return replace(state, failed=error, doubt=None)


def _apply_message(state: RoomState, message: Message) -> RoomState:
    others = [other for other in state.messages if other.id != message.id]
    streaming = state.streaming
    if streaming is not None and streaming.id == message.id:
        streaming = None
    changes: dict[str, object] = {}
    match message.kind:
        case MessageKind.HINT:
            changes["hint"] = message
        case MessageKind.ANSWER | MessageKind.REQUEST if not _has_message(state, message.id):
            changes.update(hint=None, caption="")
        case MessageKind.QUESTION | MessageKind.CLOSING:
            changes.update(hint=None)
    return replace(state, messages=_by_position([*others, message]), streaming=streaming, **changes)


def _apply_delta(state: RoomState, delta: Delta) -> RoomState:
    before = _streaming_before(state.streaming, delta)
    if before is None or _has_message(state, delta.message_id):
        return state
    text = before.text + delta.text
    return replace(state, streaming=replace(before, text=text, offset=len(text)))


def _by_position(messages: list[Message]) -> tuple[Message, ...]:
    return tuple(sorted(messages, key=lambda message: message.position))


def _update_list(interviews: tuple[Interview, ...], changed: Interview) -> tuple[Interview, ...]:
    """Return the list with `changed` in place of the interview with the same id; a new interview is
    put first."""
    if any(interview.id == changed.id for interview in interviews):
        return tuple(changed if other.id == changed.id else other for other in interviews)
    return (changed, *interviews)


def _apply_deletion(state: RoomState, id: str) -> RoomState:
    if state.interview is not None:
        return replace(state, deleted=True) if state.interview.id == id else state
    remaining = tuple(interview for interview in state.interviews if interview.id != id)
    return replace(state, interviews=remaining)
