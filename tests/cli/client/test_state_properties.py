"""Whatever comes late, twice or not at all, the state is the truth or knows that it is not."""

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
from tests.cli.client.things import said

QUESTION = MessageKind.QUESTION


class Moment(Struct, frozen=True):
    """What the server sends, and how things stand with it then."""

    event: RoomEvent
    truth: Snapshot


@st.composite
def conversations(draw: st.DrawFn) -> list[Moment]:
    """Questions that are streamed; each is taken back a few times before it is whole."""
    truth = Snapshot(state=Phase.IDLE)
    moments: list[Moment] = []

    def happen(event: RoomEvent, **changes: object) -> None:
        nonlocal truth
        truth = replace(truth, **changes)
        moments.append(Moment(event, truth))

    for position in range(draw(st.integers(1, 3))):
        id = f"m{position}"
        happen(StateChanged(state=Phase.GENERATING), state=Phase.GENERATING)
        for attempt in range(draw(st.integers(1, 2))):
            if attempt:
                happen(DeltaDropped(message_id=id), streaming=None)
            text = ""
            for piece in draw(st.lists(st.sampled_from(["Why", " 𝒳", "é?"]), min_size=1)):
                first = Delta(message_id=id, kind=QUESTION, offset=0, text=piece)
                delta = Delta(offset=len(text), text=piece) if text else first
                text += piece
                happen(
                    delta,
                    streaming=StreamingMessage(id=id, kind=QUESTION, text=text, offset=len(text)),
                )
        whole = said(position, QUESTION, text)
        happen(InterviewMessage(message=whole), messages=[*truth.messages, whole], streaming=None)
        happen(StateChanged(state=Phase.IDLE), state=Phase.IDLE)
    return moments


def agree(state: RoomState, truth: Snapshot) -> bool:
    seen = (state.phase, state.messages, state.streaming)
    return seen == (truth.state, tuple(truth.messages), truth.streaming)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(conversations(), st.data())
def test_what_is_shown_is_true_or_a_snapshot_is_asked_for(
    moments: list[Moment], data: st.DataObject
) -> None:
    """Deltas that come twice, late or not at all never end in words that were not said; and the
    snapshot that was asked for, whenever it comes, sets everything right."""
    state = apply(RoomState(), moments[0].truth)
    earlier: list[Delta] = []
    asked, late = False, 0
    for moment in moments:
        event = moment.event
        if isinstance(event, DeltaDropped | InterviewMessage):
            earlier.clear()  # of what is being said now, nothing has come yet that could come twice
        repeated = data.draw(st.sampled_from([None, *earlier]))
        lost = isinstance(event, Delta) and data.draw(st.booleans())
        for one in (repeated, None if lost else event):
            if one is not None:
                asked = asked or needs_snapshot(state, one)
                state = apply(state, one)
        if isinstance(event, Delta):
            earlier.append(event)
        shown = state.streaming.text if state.streaming else ""
        being_said = moment.truth.streaming.text if moment.truth.streaming else ""
        assert being_said.startswith(shown), "words are shown that are not being said"
        late += asked
        if asked and late > data.draw(st.integers(1, 4)):
            state = apply(state, moment.truth)
            asked, late = False, 0
            assert agree(state, moment.truth)
        assert state.stale is asked
    assert agree(state, moments[-1].truth) or asked
    assert agree(apply(state, moments[-1].truth), moments[-1].truth)
