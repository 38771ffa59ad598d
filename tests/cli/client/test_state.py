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
from tests.cli.client.things import interview, said

QUESTION, ANSWER, HINT = MessageKind.QUESTION, MessageKind.ANSWER, MessageKind.HINT


def after(*events: RoomEvent, start: RoomState | None = None) -> RoomState:
    state = start or RoomState()
    for event in events:
        state = apply(state, event)
    return state


def delta(offset: int, text: str, id: str = "m1") -> Delta:
    """As the server sends it: the first of a message names it."""
    if offset:
        return Delta(offset=offset, text=text)
    return Delta(message_id=id, kind=QUESTION, offset=0, text=text)


def test_a_snapshot_replaces_everything_and_orders_the_messages() -> None:
    """What was known before a snapshot is gone, and messages stand by position."""
    before = after(InterviewMessage(message=said(7)), delta(0, "old"))
    streaming = StreamingMessage(id="m2", kind=QUESTION, text="Wh", offset=2)
    quota = Quota(limit=100, remaining=3, reset=9.0)
    state = apply(
        before,
        Snapshot(
            interview=interview(),
            state=Phase.GENERATING,
            messages=[said(1, ANSWER), said(0)],
            streaming=streaming,
            ratelimit=quota,
            failed=Error(code=ErrorCode.INFERENCE, message="No."),
        ),
    )
    assert [message.position for message in state.messages] == [0, 1]
    assert state.streaming == streaming
    assert (state.phase, state.quota) == (Phase.GENERATING, quota)
    assert state.failed is not None


def test_deltas_grow_the_message_that_is_being_said() -> None:
    """Each delta that fits is appended and moves the offset by its code points."""
    state = after(delta(0, "Why 𝒳"), delta(5, "?"))
    assert state.streaming == StreamingMessage(id="m1", kind=QUESTION, text="Why 𝒳?", offset=6)


def test_a_delta_after_a_gap_is_not_appended_and_asks_once_for_a_snapshot() -> None:
    """A gap is reported by its first delta, and not again until the snapshot has come."""
    state = after(delta(0, "Why"))
    assert needs_snapshot(state, delta(9, "late"))
    state = apply(state, delta(9, "late"))
    assert state.streaming is not None
    assert state.streaming.text == "Why"
    assert not needs_snapshot(state, delta(13, "r"))
    state = apply(state, Snapshot(interview=interview()))
    assert needs_snapshot(state, delta(5, "x"))


def test_a_lost_connection_forgets_that_a_snapshot_was_asked_for() -> None:
    """The snapshot asked for on a connection that broke never comes."""
    state = after(delta(4, "x"), ConnectionChanged(ConnectionStatus.OFFLINE, 0.5))
    assert needs_snapshot(state, delta(4, "x"))
    assert state.retry_in == 0.5


def test_the_whole_message_takes_the_place_of_its_deltas() -> None:
    """When a message is whole, nothing is being said; if it begins again, that changes nothing."""
    state = after(delta(0, "Wh"), InterviewMessage(message=said(1, text="Why?")))
    assert state.streaming is None
    assert [message.text for message in state.messages] == ["Why?"]
    assert not needs_snapshot(state, delta(0, "Wh"))
    assert apply(state, delta(0, "Wh")) == state


def test_a_message_with_a_known_id_replaces_the_old_one() -> None:
    """A corrected answer stands where the answer stood."""
    state = after(
        InterviewMessage(message=said(0)),
        InterviewMessage(message=said(1, ANSWER, "wrong")),
        InterviewMessage(message=said(2)),
        InterviewMessage(message=said(1, ANSWER, "right")),
    )
    assert [message.text for message in state.messages] == ["Why?", "right", "Why?"]


def test_dropped_deltas_are_forgotten() -> None:
    """A message that will not be finished leaves nothing; another one's drop changes nothing."""
    state = after(delta(0, "Wh"))
    assert apply(state, DeltaDropped(message_id="other")) is state
    assert apply(state, DeltaDropped(message_id="m1")).streaming is None


def test_captions_live_until_the_words_are_written_down() -> None:
    """A caption stays during the transcription and goes when the answer is there."""
    state = after(Caption(text="I led"), StateChanged(state=Phase.TRANSCRIBING))
    assert state.caption == "I led"
    assert apply(state, InterviewMessage(message=said(1, ANSWER))).caption == ""
    assert apply(state, StateChanged(state=Phase.IDLE)).caption == ""


def test_a_hint_belongs_to_the_open_question() -> None:
    """A hint is there until the question is answered."""
    state = after(
        InterviewMessage(message=said(0)), InterviewMessage(message=said(1, HINT, "Think."))
    )
    assert state.hint is not None
    assert open_question(state) == said(0)
    assert apply(state, InterviewMessage(message=said(2, ANSWER))).hint is None


def test_a_failed_turn_can_be_tried_again_until_work_goes_on() -> None:
    """The state that ends a turn says why it stopped, and the next turn clears it."""
    error = Error(code=ErrorCode.INFERENCE, message="No.", retryable=True)
    state = after(
        StateChanged(state=Phase.GENERATING),
        Failure(code=ErrorCode.INFERENCE, message="No.", retryable=True),
        StateChanged(state=Phase.IDLE, failed=error),
    )
    assert state.failed == error
    assert apply(state, StateChanged(state=Phase.GENERATING)).failed is None


def test_a_failure_alone_is_no_failed_turn() -> None:
    """A refused message and a hint that failed are shown, and leave nothing to try again."""
    state = after(
        StateChanged(state=Phase.HINTING),
        Failure(code=ErrorCode.INFERENCE, message="No.", retryable=True),
        StateChanged(state=Phase.IDLE),
        Failure(code=ErrorCode.BUSY, message="Wait.", retryable=True, id="mine"),
    )
    assert state.failed is None
    assert state.last_error is not None
    assert state.last_error.code == ErrorCode.BUSY


def test_nothing_is_being_said_when_nothing_is_under_way() -> None:
    """A turn that is over leaves no half sentence on the screen."""
    state = after(StateChanged(state=Phase.GENERATING), delta(0, "Wh"))
    assert apply(state, StateChanged(state=Phase.HINTING)).streaming is not None
    assert apply(state, StateChanged(state=Phase.IDLE)).streaming is None


def test_the_open_question_is_the_last_thing_said_hints_aside() -> None:
    """Nothing is open before the first question, after an answer, or in a completed interview."""
    assert open_question(RoomState()) is None
    state = after(Snapshot(interview=interview(), messages=[said(0), said(1, HINT)]))
    assert open_question(state) == said(0)
    assert open_question(apply(state, InterviewMessage(message=said(2, ANSWER)))) is None
    done = apply(state, InterviewUpdated(interview=interview(status=Status.COMPLETED)))
    assert is_completed(done)
    assert open_question(done) is None


def test_the_list_of_interviews_follows_what_happens_to_them() -> None:
    """New ones come first, changed ones stay in place, deleted ones go."""
    state = after(
        Snapshot(interviews=[interview("a")]),
        InterviewCreated(interview=interview("b")),
        InterviewUpdated(interview=interview("a", title="New")),
    )
    assert [(each.id, each.title) for each in state.interviews] == [
        ("b", "Backend Engineer"),
        ("a", "New"),
    ]
    assert [each.id for each in apply(state, InterviewDeleted(interview_id="b")).interviews] == [
        "a"
    ]


def test_the_deletion_of_the_interview_shows() -> None:
    """A room learns that its own interview is gone, and not that another one is."""
    state = after(Snapshot(interview=interview("a")))
    assert not apply(state, InterviewDeleted(interview_id="b")).deleted
    assert apply(state, InterviewDeleted(interview_id="a")).deleted


def test_the_quota_follows_the_rate_limit() -> None:
    """What remains is shown as the server counts it."""
    state = after(RateLimit(limit=10, remaining=2, reset=5.0))
    assert state.quota == Quota(limit=10, remaining=2, reset=5.0)


def test_events_that_mean_nothing_to_a_state_leave_it() -> None:
    """An acknowledgement is the outbox's business."""
    state = RoomState()
    assert apply(state, Accepted(id="x")) is state
