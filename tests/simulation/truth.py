"""What is stored, read from the files by other code than the server's own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from prepserver.interview.prompts.context import HistorySummary
from prepserver.interview.turns.steps import Step, TurnState, phase_of
from prepserver.wire.protocol import (
    Error,
    Interview,
    Message,
    MessageKind,
    Phase,
    Role,
    Source,
)

__all__ = ["Stored", "StoredTurn", "Truth", "read"]


class StoredTurn(Struct, frozen=True):
    id: str
    step: Step
    state: TurnState
    attempt: int
    recording: str | None
    error: Error | None


class Truth(Struct, frozen=True, kw_only=True):
    """One interview as it stands on disk."""

    name: str
    view: Interview | None
    messages: tuple[Message, ...]
    turns: tuple[StoredTurn, ...]
    alarm: float | None
    list_update_pending: bool
    recordings: frozenset[str]
    condensed: HistorySummary

    @property
    def active(self) -> StoredTurn | None:
        found = [turn for turn in self.turns if turn.state is TurnState.ACTIVE]
        return found[-1] if found else None

    @property
    def phase(self) -> Phase:
        return phase_of(self.active.step if self.active else None)

    @property
    def failed(self) -> Error | None:
        """Why the last turn stopped, when it did and none is under way."""
        proper = [turn for turn in self.turns if turn.step is not Step.HINT]
        if self.active or not proper or proper[-1].state is TurnState.DONE:
            return None
        return proper[-1].error

    @property
    def hint(self) -> Message | None:
        """The last hint since the open question."""
        hint = None
        for message in self.messages:
            match message.kind:
                case MessageKind.HINT:
                    hint = message
                case MessageKind.QUESTION:
                    hint, is_open = None, True
                case MessageKind.ANSWER | MessageKind.CLOSING:
                    is_open = False
        return hint if hint is not None and is_open else None


class Stored(Struct, frozen=True):
    interviews: dict[str, Truth]
    """Every interview there is a file of, by its id."""
    listed: list[Interview]
    """The user's interviews as their list shows them: the newest first."""


def read(root: Path) -> Stored:
    """Everything in a data directory."""
    truths = [_read_interview(path) for path in root.glob("objects/interview/*/*.sqlite")]
    lists = [_read_list(path) for path in root.glob("objects/user-interviews/*/*.sqlite")]
    return Stored(
        {truth.name: truth for truth in truths if truth is not None}, lists[0] if lists else []
    )


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """A copy, as a crash would leave it: the server has locked the file for itself."""
    with TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / "copy"
        for suffix in ("", "-wal"):
            if (part := path.with_name(path.name + suffix)).exists():
                shutil.copyfile(part, f"{copy}{suffix}")
        connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            yield connection
        finally:
            connection.close()


def _read_list(path: Path) -> list[Interview]:
    with _opened(path) as connection:
        if not connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'interviews'"
        ).fetchall():
            return []
        rows: list[Any] = connection.execute(
            "SELECT view FROM interviews WHERE NOT deleting ORDER BY created_at DESC, id"
        ).fetchall()
    return [msgspec.json.decode(row[0], type=Interview) for row in rows]


def _read_interview(path: Path) -> Truth | None:
    with _opened(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'turns'").fetchall():
            return None  # not laid out yet
        name = connection.execute("SELECT name FROM _object").fetchone()
        pairs: list[Any] = connection.execute("SELECT key, value FROM _kv").fetchall()
        messages = connection.execute(
            "SELECT id, role, kind, text, source, position, created_at, edited"
            " FROM messages ORDER BY position"
        ).fetchall()
        turns = connection.execute(
            "SELECT id, step, state, attempt, recording, error FROM turns ORDER BY number"
        ).fetchall()
        alarm = connection.execute("SELECT due FROM _alarm").fetchone()
        recordings = connection.execute("SELECT id FROM recordings").fetchall()
    if name is None:
        return None
    kept: dict[str, Any] = dict(pairs)
    view = kept.get("view")
    return Truth(
        name=str(name[0]),
        view=None if view is None else msgspec.json.decode(view, type=Interview),
        messages=tuple(map(_message, messages)),
        turns=tuple(map(_turn, turns)),
        alarm=None if alarm is None else float(str(alarm[0])),
        list_update_pending="list_update_pending" in kept,
        recordings=frozenset(str(row[0]) for row in recordings),
        condensed=msgspec.json.decode(kept.get("history_summary", b"{}"), type=HistorySummary),
    )


def _message(row: Any) -> Message:
    id, role, kind, text, source, position, created_at, edited = row
    return Message(
        id=id,
        role=Role(role),
        kind=MessageKind(kind),
        text=text,
        source=Source(source),
        position=position,
        created_at=created_at,
        edited=bool(edited),
    )


def _turn(row: Any) -> StoredTurn:
    id, step, state, attempt, recording, error = row
    stored = None if error is None else msgspec.json.decode(error, type=Error)
    return StoredTurn(id, Step(step), TurnState(state), attempt, recording, stored)
