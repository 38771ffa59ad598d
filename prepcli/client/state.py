"""What is known of a room, and how an event changes it: values and pure functions, no I/O.

`apply(state, event)` gives the next state. Offsets count code points, as `len` of a str does.
"""

import enum

from msgspec import Struct
from msgspec.structs import replace

from prepserver.wire.protocol import (
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
    "needs_snapshot",
    "open_question",
]


class ConnectionStatus(enum.StrEnum):
    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    """Waiting for the next attempt."""
    CLOSED = "closed"
    """For good: the room was left or is not there."""
    UNAUTHORIZED = "unauthorized"
    """For good, until somebody logs in."""


class ConnectionChanged(Struct, frozen=True):
    """The client's own event among those of the server."""

    status: ConnectionStatus
    retry_in: float | None = None
    """Seconds until the next attempt, when offline."""


RoomEvent = ServerMessages | ConnectionChanged


class RoomState(Struct, frozen=True, kw_only=True):
    """All that a screen needs to show a room."""

    interview: Interview | None = None
    phase: Phase = Phase.IDLE
    messages: tuple[Message, ...] = ()
    """Ordered by position."""
    streaming: StreamingMessage | None = None
    """The message that is being said."""
    hint: Message | None = None
    """The hint to the open question."""
    quota: Quota | None = None
    failed: Error | None = None
    """Why the last turn stopped; `turn.retry` tries it again."""
    caption: str = ""
    """What the candidate seems to be saying."""
    connection: ConnectionStatus = ConnectionStatus.CONNECTING
    retry_in: float | None = None
    last_error: Failure | None = None
    interviews: tuple[Interview, ...] = ()
    """Of the room `user-interviews`; the newest first."""
    deleted: bool = False
    """The interview is gone."""
    stale: bool = False
    """A snapshot has been asked for and is on its way."""


def is_completed(state: RoomState) -> bool:
    return state.interview is not None and state.interview.status is Status.COMPLETED


def open_question(state: RoomState) -> Message | None:
    """The question that waits for an answer: the last thing said, hints aside."""
    if is_completed(state):
        return None
    for message in reversed(state.messages):
        if message.kind is not MessageKind.HINT:
            return message if message.kind is MessageKind.QUESTION else None
    return None


def needs_snapshot(state: RoomState, event: RoomEvent) -> bool:
    """Whether the event shows that something was missed; asked before `apply`.

    Once for each gap: while a snapshot is on its way the answer is no.
    """
    return not state.stale and _misses(state, event)


def apply(state: RoomState, event: RoomEvent) -> RoomState:
    """The state after the event. Events that change nothing give the same object back."""
    if _misses(state, event):
        state = replace(state, stale=True)
    match event:
        case ConnectionChanged(status=status, retry_in=retry_in):
            # A snapshot that was asked for on a lost connection will never come.
            return replace(state, connection=status, retry_in=retry_in, stale=False)
        case Snapshot():
            return _renewed(state, event)
        case StateChanged(state=phase, failed=failed):
            caption = state.caption if phase is Phase.TRANSCRIBING else ""
            streaming = None if phase is Phase.IDLE else state.streaming
            return replace(state, phase=phase, failed=failed, caption=caption, streaming=streaming)
        case InterviewMessage(message=message):
            return _said(state, message)
        case Delta():
            return _more(state, event)
        case DeltaDropped(message_id=id):
            dropped = state.streaming is not None and state.streaming.id == id
            return replace(state, streaming=None) if dropped else state
        case Caption(text=text):
            return replace(state, caption=text)
        case RateLimit(limit=limit, remaining=remaining, reset=reset):
            return replace(state, quota=Quota(limit=limit, remaining=remaining, reset=reset))
        case InterviewCreated(interview=interview) | InterviewUpdated(interview=interview):
            if state.interview is not None and state.interview.id == interview.id:
                return replace(state, interview=interview)
            return replace(state, interviews=_listed(state.interviews, interview))
        case InterviewDeleted(interview_id=id):
            return _without(state, id)
        case Failure():
            return replace(state, last_error=event)
        case _:
            return state


def _misses(state: RoomState, event: RoomEvent) -> bool:
    if not isinstance(event, Delta):
        return False
    return _continued(state.streaming, event) is None and not _is_whole(state, event.message_id)


def _continued(streaming: StreamingMessage | None, delta: Delta) -> StreamingMessage | None:
    """What a delta goes on from: nothing yet, or what is being said; None when it does not fit."""
    if delta.offset == 0 and delta.kind is not None:
        return StreamingMessage(id=delta.message_id, kind=delta.kind, text="", offset=0)
    return streaming if streaming is not None and streaming.offset == delta.offset else None


def _is_whole(state: RoomState, id: str) -> bool:
    return any(message.id == id for message in state.messages)


def _renewed(state: RoomState, snapshot: Snapshot) -> RoomState:
    """A snapshot replaces everything but what the client knows of itself."""
    return RoomState(
        interview=snapshot.interview,
        phase=snapshot.state or Phase.IDLE,
        messages=_ordered(snapshot.messages),
        streaming=snapshot.streaming,
        hint=snapshot.hint,
        quota=snapshot.ratelimit,
        failed=snapshot.failed,
        # Half an answer may be on the screen while its recording goes on.
        caption=state.caption,
        connection=state.connection,
        retry_in=state.retry_in,
        last_error=state.last_error,
        interviews=tuple(snapshot.interviews or ()),
        deleted=state.deleted,
    )


def _said(state: RoomState, message: Message) -> RoomState:
    others = [other for other in state.messages if other.id != message.id]
    streaming = state.streaming
    if streaming is not None and streaming.id == message.id:
        streaming = None
    changes: dict[str, object] = {}
    match message.kind:
        case MessageKind.HINT:
            changes["hint"] = message
        case MessageKind.ANSWER if not _is_whole(state, message.id):
            changes.update(hint=None, caption="")
        case MessageKind.QUESTION | MessageKind.CLOSING:
            changes.update(hint=None)
    return replace(state, messages=_ordered([*others, message]), streaming=streaming, **changes)


def _more(state: RoomState, delta: Delta) -> RoomState:
    before = _continued(state.streaming, delta)
    if before is None or _is_whole(state, delta.message_id):
        return state
    text = before.text + delta.text
    return replace(state, streaming=replace(before, text=text, offset=len(text)))


def _ordered(messages: list[Message]) -> tuple[Message, ...]:
    return tuple(sorted(messages, key=lambda message: message.position))


def _listed(interviews: tuple[Interview, ...], changed: Interview) -> tuple[Interview, ...]:
    if any(interview.id == changed.id for interview in interviews):
        return tuple(changed if other.id == changed.id else other for other in interviews)
    return (changed, *interviews)


def _without(state: RoomState, id: str) -> RoomState:
    if state.interview is not None:
        return replace(state, deleted=True) if state.interview.id == id else state
    rest = tuple(interview for interview in state.interviews if interview.id != id)
    return replace(state, interviews=rest)
