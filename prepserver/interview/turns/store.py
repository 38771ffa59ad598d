"""Turns as they are stored: what the interview has asked of the models, and how it went."""

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
    """Counted from 1 within the interview."""
    id: str
    step: Step
    state: TurnState
    attempt: int
    recording: str | None
    error: Error | None


class TurnStore:
    """The turns of one interview; at most one is active."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def active(self) -> Turn | None:
        return self._one("WHERE state = ?", TurnState.ACTIVE)

    def unfinished(self) -> Turn | None:
        """The latest turn, hints aside, if it failed or was stopped."""
        latest = self._one("WHERE step != ? ORDER BY number DESC LIMIT 1", Step.HINT)
        if latest is None or latest.state not in (TurnState.FAILED, TurnState.STOPPED):
            return None
        return latest

    def asked(self) -> Turn | None:
        """The latest turn for a question."""
        return self._one("WHERE step = ? ORDER BY number DESC LIMIT 1", Step.QUESTION)

    def begin(self, step: Step, recording: str | None, *, at: float) -> Turn:
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
        """Active again, as a new request."""
        self._storage.sql(
            "UPDATE turns SET state = ?, attempt = attempt + 1, error = NULL WHERE number = ?",
            TurnState.ACTIVE,
            turn.number,
        )
        return msgspec.structs.replace(
            turn, state=TurnState.ACTIVE, attempt=turn.attempt + 1, error=None
        )

    def _one(self, condition: str, *bindings: str) -> Turn | None:
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
