import pytest

from prepcli.client.state import (
    ConnectionChanged,
    ConnectionStatus,
    RoomEvent,
    RoomState,
    apply,
    is_completed,
    needs_snapshot,
    open_question,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    Caption,
    Delta,
    DeltaDropped,
    Error,
    Failure,
    InterviewCreated,
    InterviewDeleted,
    InterviewMessage,
    InterviewUpdated,
    MessageKind,
    Phase,
    Quota,
    RateLimit,
    Snapshot,
    StateChanged,
    Status,
    StreamingMessage,
)
from tests.cli.client.builders import make_interview, make_message

QUESTION, ANSWER, HINT = MessageKind.QUESTION, MessageKind.ANSWER, MessageKind.HINT


def apply_all(*events: RoomEvent) -> RoomState:
    """Return the state that results from applying the events to an empty state."""
    state = RoomState()
    for event in events:
        state = apply(state, event)
    return state


def delta(offset: int, text: str, id: str = "m1") -> Delta:
    """Return a delta as the server sends it, with the id and the kind only if the offset is 0."""
    if offset:
        return Delta(offset=offset, text=text)
    return Delta(message_id=id, kind=QUESTION, offset=0, text=text)


def test_snapshot_replaces_the_state() -> None:
    """A snapshot replaces the previous state, and its messages are sorted by position."""
    before = apply_all(InterviewMessage(message=make_message(7)), delta(0, "old"))
    streaming = StreamingMessage(id="m2", kind=QUESTION, text="Wh", offset=2)
    quota = Quota(limit=100, remaining=3, reset=9.0)
    state = apply(
        before,
        Snapshot(
            interview=make_interview(),
            state=Phase.GENERATING,
            messages=[make_message(1, ANSWER), make_message(0)],
            streaming=streaming,
            ratelimit=quota,
            failed=Error(code=ErrorCode.INFERENCE, message="No."),
        ),
    )
    assert [message.position for message in state.messages] == [0, 1]
    assert state.streaming == streaming
    assert (state.phase, state.quota) == (Phase.GENERATING, quota)
    assert state.failed is not None


def test_deltas_extend_the_streaming_message() -> None:
    """A delta at the expected offset is appended; the offset grows by the delta's code points."""
    state = apply_all(delta(0, "Why 𝒳"), delta(5, "?"))
    assert state.streaming == StreamingMessage(id="m1", kind=QUESTION, text="Why 𝒳?", offset=6)


def test_delta_after_a_gap_requires_one_snapshot() -> None:
    """The first delta after a gap is dropped and requires a snapshot; until the snapshot arrives,
    later deltas require no other snapshot."""
    state = apply_all(delta(0, "Why"))
    assert needs_snapshot(state, delta(9, "late"))
    state = apply(state, delta(9, "late"))
    assert state.streaming is not None
    assert state.streaming.text == "Why"
    assert not needs_snapshot(state, delta(13, "r"))
    state = apply(state, Snapshot(interview=make_interview()))
    assert needs_snapshot(state, delta(5, "x"))


def test_lost_connection_cancels_a_requested_snapshot() -> None:
    """After a lost connection, a gap requires a new snapshot, even if one was requested before."""
    state = apply_all(delta(4, "x"), ConnectionChanged(ConnectionStatus.OFFLINE, 0.5))
    assert needs_snapshot(state, delta(4, "x"))
    assert state.retry_in == 0.5


def test_complete_message_replaces_its_deltas() -> None:
    """A complete message replaces its streamed text, and repeated deltas are ignored."""
    state = apply_all(delta(0, "Wh"), InterviewMessage(message=make_message(1, text="Why?")))
    assert state.streaming is None
    assert [message.text for message in state.messages] == ["Why?"]
    assert not needs_snapshot(state, delta(0, "Wh"))
    assert apply(state, delta(0, "Wh")) == state


def test_message_with_a_known_id_replaces_the_old_one() -> None:
    """A corrected answer replaces the original answer at the same position."""
    state = apply_all(
        InterviewMessage(message=make_message(0)),
        InterviewMessage(message=make_message(1, ANSWER, "wrong")),
        InterviewMessage(message=make_message(2)),
        InterviewMessage(message=make_message(1, ANSWER, "right")),
    )
    assert [message.text for message in state.messages] == ["Why?", "right", "Why?"]


def test_dropped_message_is_removed() -> None:
    """`interview.delta.dropped` discards a streaming message only if the message ids match."""
    state = apply_all(delta(0, "Wh"))
    assert apply(state, DeltaDropped(message_id="other")) is state
    assert apply(state, DeltaDropped(message_id="m1")).streaming is None


def test_caption_lasts_until_the_answer() -> None:
    """A caption is kept during the transcription and cleared by the answer or by an idle phase."""
    state = apply_all(Caption(text="I led"), StateChanged(state=Phase.TRANSCRIBING))
    assert state.caption == "I led"
    assert apply(state, InterviewMessage(message=make_message(1, ANSWER))).caption == ""
    assert apply(state, StateChanged(state=Phase.IDLE)).caption == ""


def test_hint_belongs_to_the_open_question() -> None:
    """A hint lasts until its question is answered."""
    state = apply_all(
        InterviewMessage(message=make_message(0)),
        InterviewMessage(message=make_message(1, HINT, "Think.")),
    )
    assert state.hint is not None
    assert open_question(state) == make_message(0)
    assert apply(state, InterviewMessage(message=make_message(2, ANSWER))).hint is None


def test_failed_turn_is_kept_until_the_next_turn() -> None:
    """The error of a failed turn is kept until the next phase begins."""
    error = Error(code=ErrorCode.INFERENCE, message="No.", retryable=True)
    state = apply_all(
        StateChanged(state=Phase.GENERATING),
        Failure(code=ErrorCode.INFERENCE, message="No.", retryable=True),
        StateChanged(state=Phase.IDLE, failed=error),
    )
    assert state.failed == error
    assert apply(state, StateChanged(state=Phase.GENERATING)).failed is None


@pytest.mark.parametrize("by_snapshot", [True, False])
def test_doubtful_recording_is_not_a_failed_turn(by_snapshot: bool) -> None:
    """A doubtful recording sets `doubt` rather than `failed`, and the next turn clears it."""
    error = Error(
        code=ErrorCode.SPEECH_DOUBTFUL, message="Check.", retryable=False, details={"text": "We."}
    )
    event: RoomEvent
    if by_snapshot:
        event = Snapshot(interview=make_interview(), messages=[], failed=error)
    else:
        event = StateChanged(state=Phase.IDLE, failed=error)
    state = apply_all(event)
    assert (state.failed, state.doubt) == (None, error)
    assert apply(state, StateChanged(state=Phase.GENERATING)).doubt is None


def test_error_message_is_not_a_failed_turn() -> None:
    """A rejected message and a failed hint set `last_error` but not `failed`."""
    state = apply_all(
        StateChanged(state=Phase.HINTING),
        Failure(code=ErrorCode.INFERENCE, message="No.", retryable=True),
        StateChanged(state=Phase.IDLE),
        Failure(code=ErrorCode.BUSY, message="Wait.", retryable=True, id="mine"),
    )
    assert state.failed is None
    assert state.last_error is not None
    assert state.last_error.code == ErrorCode.BUSY


def test_idle_phase_ends_the_streaming_message() -> None:
    """An idle phase discards an incomplete streaming message."""
    state = apply_all(StateChanged(state=Phase.GENERATING), delta(0, "Wh"))
    assert apply(state, StateChanged(state=Phase.HINTING)).streaming is not None
    assert apply(state, StateChanged(state=Phase.IDLE)).streaming is None


def test_open_question_is_the_last_message_apart_from_hints() -> None:
    """A question stays open after a hint, but not after an answer or in a completed interview."""
    assert open_question(RoomState()) is None
    state = apply_all(
        Snapshot(interview=make_interview(), messages=[make_message(0), make_message(1, HINT)])
    )
    assert open_question(state) == make_message(0)
    assert open_question(apply(state, InterviewMessage(message=make_message(2, ANSWER)))) is None
    done = apply(state, InterviewUpdated(interview=make_interview(status=Status.COMPLETED)))
    assert is_completed(done)
    assert open_question(done) is None


def test_list_of_interviews_is_updated() -> None:
    """In the list, a new interview comes first, a changed interview keeps its place, and a deleted
    interview is removed."""
    state = apply_all(
        Snapshot(interviews=[make_interview("a")]),
        InterviewCreated(interview=make_interview("b")),
        InterviewUpdated(interview=make_interview("a", title="New")),
    )
    assert [(each.id, each.title) for each in state.interviews] == [
        ("b", "Backend Engineer"),
        ("a", "New"),
    ]
    assert [each.id for each in apply(state, InterviewDeleted(interview_id="b")).interviews] == [
        "a"
    ]


def test_deletion_marks_only_the_own_interview() -> None:
    """The deletion of the room's interview sets `deleted`; that of another interview does not."""
    state = apply_all(Snapshot(interview=make_interview("a")))
    assert not apply(state, InterviewDeleted(interview_id="b")).deleted
    assert apply(state, InterviewDeleted(interview_id="a")).deleted


def test_quota_follows_the_rate_limit_message() -> None:
    """A `ratelimit` message replaces the quota."""
    state = apply_all(RateLimit(limit=10, remaining=2, reset=5.0))
    assert state.quota == Quota(limit=10, remaining=2, reset=5.0)


def test_acknowledgement_does_not_change_the_state() -> None:
    """Applying an acknowledgement returns the same state object."""
    state = RoomState()
    assert apply(state, Accepted(id="x")) is state
