"""Storage of turns: the state of each exchange with the models, and the error if it failed."""

import uuid

import msgspec
from msgspec import Struct

from prepserver.interview.turns.steps import Step, TurnState
from prepserver.objects.storage import Storage
from prepserver.wire.protocol import Error

__all__ = ["Turn", "TurnStore"]

_COLUMNS = "number, id, step, state, attempt, recording, error"


class Turn(Struct, frozen=True, kw_only=True):
    number: int
    """Number of the turn within the interview, counted from 1."""
    id: str
    step: Step
    state: TurnState
    attempt: int
    """Number of times that a client has retried the turn."""
    recording: str | None
    """Id of the recording that the step transcribes, or None."""
    error: Error | None


class TurnStore:
    """Stored turns of one interview, of which at most one is active."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def active(self) -> Turn | None:
        return self._select_one("WHERE state = ?", TurnState.ACTIVE)

    def unfinished(self) -> Turn | None:
        """Return the latest turn that is not a hint if that turn failed or was stopped, otherwise
        None."""
        latest = self._select_one("WHERE step != ? ORDER BY number DESC LIMIT 1", Step.HINT)
        if latest is None or latest.state not in (TurnState.FAILED, TurnState.STOPPED):
            return None
        return latest

    def latest_question(self) -> Turn | None:
        """Return the latest turn whose step is a question, or None if there is none."""
        return self._select_one("WHERE step = ? ORDER BY number DESC LIMIT 1", Step.QUESTION)

    def begin(self, step: Step, recording: str | None, *, at: float) -> Turn:
        """Store a new active turn and return it. `at` is in seconds since the Unix epoch."""
        self._storage.sql(
            "INSERT INTO turns (id, step, state, attempt, recording, created_at)"
            " VALUES (?, ?, ?, 0, ?, ?)",
            uuid.uuid4().hex,
            step,
            TurnState.ACTIVE,
            recording,
            at,
        )
        turn = self.active()
        assert turn is not None
        return turn

    def advance(self, turn: Turn, step: Step) -> Turn:
        """Move an active turn to `step` and return the changed turn."""
        self._storage.sql(
            "UPDATE turns SET step = ?, recording = NULL WHERE number = ?", step, turn.number
        )
        return msgspec.structs.replace(turn, step=step, recording=None)

    def finish(self, turn: Turn, state: TurnState, error: Error | None = None) -> None:
        self._storage.sql(
            "UPDATE turns SET state = ?, error = ? WHERE number = ?",
            state,
            None if error is None else msgspec.json.encode(error),
            turn.number,
        )

    def retry(self, turn: Turn) -> Turn:
        """Make an unfinished turn active again. The new attempt is charged as a new request."""
        self._storage.sql(
            "UPDATE turns SET state = ?, attempt = attempt + 1, error = NULL WHERE number = ?",
            TurnState.ACTIVE,
            turn.number,
        )
        return msgspec.structs.replace(
            turn, state=TurnState.ACTIVE, attempt=turn.attempt + 1, error=None
        )

    def _select_one(self, condition: str, *bindings: str) -> Turn | None:
        row = self._storage.row(f"SELECT {_COLUMNS} FROM turns {condition}", *bindings)
        if row is None:
            return None
        number, id, step, state, attempt, recording, error = row
        return Turn(
            number=number,
            id=id,
            step=Step(step),
            state=TurnState(state),
            attempt=attempt,
            recording=recording,
            error=None if error is None else msgspec.json.decode(error, type=Error),
        )
