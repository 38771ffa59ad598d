"""Property tests: with lost and repeated deltas, the state is current or marked as stale."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from prepcli.client.state import RoomEvent, RoomState, apply, needs_snapshot
from prepserver.wire.protocol import (
    Delta,
    DeltaDropped,
    InterviewMessage,
    MessageKind,
    Phase,
    Snapshot,
    StateChanged,
    StreamingMessage,
)
from tests.cli.client.builders import make_message

QUESTION = MessageKind.QUESTION


class Step(Struct, frozen=True):
    """Event that the server sends, with the room's state after the event."""

    event: RoomEvent
    snapshot: Snapshot


@st.composite
def conversations(draw: st.DrawFn) -> list[Step]:
    """Generate streamed questions, some of which are dropped once before they are completed."""
    snapshot = Snapshot(state=Phase.IDLE)
    steps: list[Step] = []

    def add_step(event: RoomEvent, **changes: object) -> None:
        nonlocal snapshot
        snapshot = replace(snapshot, **changes)
        steps.append(Step(event, snapshot))

    for position in range(draw(st.integers(1, 3))):
        id = f"m{position}"
        add_step(StateChanged(state=Phase.GENERATING), state=Phase.GENERATING)
        for attempt in range(draw(st.integers(1, 2))):
            if attempt:
                add_step(DeltaDropped(message_id=id), streaming=None)
            text = ""
            for piece in draw(st.lists(st.sampled_from(["Why", " 𝒳", "é?"]), min_size=1)):
                first = Delta(message_id=id, kind=QUESTION, offset=0, text=piece)
                delta = Delta(offset=len(text), text=piece) if text else first
                text += piece
                add_step(
                    delta,
                    streaming=StreamingMessage(id=id, kind=QUESTION, text=text, offset=len(text)),
                )
        message = make_message(position, QUESTION, text)
        add_step(
            InterviewMessage(message=message),
            messages=[*snapshot.messages, message],
            streaming=None,
        )
        add_step(StateChanged(state=Phase.IDLE), state=Phase.IDLE)
    return steps


def is_current(state: RoomState, snapshot: Snapshot) -> bool:
    shown = (state.phase, state.messages, state.streaming)
    return shown == (snapshot.state, tuple(snapshot.messages), snapshot.streaming)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(conversations(), st.data())
def test_state_is_current_or_stale(steps: list[Step], data: st.DataObject) -> None:
    """With lost and repeated deltas, a state never shows text that was not generated, and a
    requested snapshot makes the state current whenever the snapshot arrives."""
    state = apply(RoomState(), steps[0].snapshot)
    earlier: list[Delta] = []
    requested, steps_since_request = False, 0
    for step in steps:
        event = step.event
        if isinstance(event, DeltaDropped | InterviewMessage):
            earlier.clear()  # only deltas of the current message can be repeated
        repeated = data.draw(st.sampled_from([None, *earlier]))
        lost = isinstance(event, Delta) and data.draw(st.booleans())
        for received in (repeated, None if lost else event):
            if received is not None:
                requested = requested or needs_snapshot(state, received)
                state = apply(state, received)
        if isinstance(event, Delta):
            earlier.append(event)
        shown = state.streaming.text if state.streaming else ""
        generated = step.snapshot.streaming.text if step.snapshot.streaming else ""
        assert generated.startswith(shown), "the state shows text that was not generated"
        steps_since_request += requested
        if requested and steps_since_request > data.draw(st.integers(1, 4)):
            state = apply(state, step.snapshot)
            requested, steps_since_request = False, 0
            assert is_current(state, step.snapshot)
        assert state.stale is requested
    assert is_current(state, steps[-1].snapshot) or requested
    assert is_current(apply(state, steps[-1].snapshot), steps[-1].snapshot)
