"""Storage of turns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prepserver.interview import schema
from prepserver.interview.turns.steps import Step, TurnState
from prepserver.interview.turns.store import TurnStore
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Error

ERROR = Error(
    code=ErrorCode.INFERENCE, message="The model is gone.", retryable=True, details={"n": 1}
)


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[TurnStore]:
    storage = Storage(tmp_path / "a.sqlite", "a", schema.INTERVIEW)
    yield TurnStore(storage)
    storage.close()


def test_a_new_turn_is_active(turns: TurnStore) -> None:
    """A new turn is active and has the given step, the given recording and a new number."""
    assert turns.active() is None
    turn = turns.begin(Step.TRANSCRIBE, "recording-1", at=1.0)
    assert turns.active() == turn
    assert (turn.number, turn.step, turn.recording, turn.attempt) == (
        1,
        Step.TRANSCRIBE,
        "recording-1",
        0,
    )


def test_a_turn_advances_to_its_next_step(turns: TurnStore) -> None:
    """A turn that advances to its next step keeps its id and no longer has a recording."""
    begun = turns.begin(Step.TRANSCRIBE, "recording-1", at=1.0)
    advanced = turns.advance(begun, Step.QUESTION)
    assert turns.active() == advanced
    assert (advanced.id, advanced.step, advanced.recording) == (begun.id, Step.QUESTION, None)


def test_a_finished_turn_is_neither_active_nor_unfinished(turns: TurnStore) -> None:
    """A finished turn is not active and cannot be retried."""
    turns.finish(turns.begin(Step.QUESTION, None, at=1.0), TurnState.DONE)
    assert turns.active() is None
    assert turns.unfinished() is None


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.STOPPED])
def test_a_failed_or_stopped_turn_can_be_retried(turns: TurnStore, state: TurnState) -> None:
    """A retried turn becomes active with a new attempt number and without its error."""
    begun = turns.begin(Step.QUESTION, None, at=1.0)
    turns.finish(begun, state, ERROR)
    unfinished = turns.unfinished()
    assert unfinished is not None
    assert (unfinished.id, unfinished.error) == (begun.id, ERROR)
    again = turns.retry(unfinished)
    assert turns.active() == again
    assert (again.id, again.attempt, again.error) == (begun.id, 1, None)
    assert turns.unfinished() is None


def test_only_the_latest_turn_is_unfinished(turns: TurnStore) -> None:
    """A failed turn cannot be retried once a later turn other than a hint is done."""
    turns.finish(turns.begin(Step.QUESTION, None, at=1.0), TurnState.FAILED, ERROR)
    turns.finish(turns.begin(Step.CLOSING, None, at=2.0), TurnState.DONE)
    assert turns.unfinished() is None


def test_a_hint_does_not_hide_an_unfinished_turn(turns: TurnStore) -> None:
    """A failed turn can still be retried after a later hint."""
    failed = turns.begin(Step.QUESTION, None, at=1.0)
    turns.finish(failed, TurnState.FAILED, ERROR)
    turns.finish(turns.begin(Step.HINT, None, at=2.0), TurnState.DONE)
    unfinished = turns.unfinished()
    assert unfinished is not None
    assert unfinished.id == failed.id
