"""The stored state, read from the database files independently of the server's code."""

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
    Intent,
    Interview,
    Message,
    MessageKind,
    Phase,
    Role,
    Source,
)

__all__ = ["StoredInterview", "StoredState", "StoredTurn", "read_stored_state"]


class StoredTurn(Struct, frozen=True):
    id: str
    step: Step
    state: TurnState
    attempt: int
    recording: str | None
    error: Error | None


class StoredInterview(Struct, frozen=True, kw_only=True):
    """Interview as stored on disk."""

    name: str
    view: Interview | None
    messages: tuple[Message, ...]
    turns: tuple[StoredTurn, ...]
    alarm: float | None
    list_update_pending: bool
    recordings: frozenset[str]
    history_summary: HistorySummary

    @property
    def active(self) -> StoredTurn | None:
        found = [turn for turn in self.turns if turn.state is TurnState.ACTIVE]
        return found[-1] if found else None

    @property
    def phase(self) -> Phase:
        return phase_of(self.active.step if self.active else None)

    @property
    def failed(self) -> Error | None:
        """Error of the last turn other than a hint, if that turn failed or was stopped and no turn
        is active; otherwise None."""
        counted = [turn for turn in self.turns if turn.step is not Step.HINT]
        if self.active or not counted or counted[-1].state is TurnState.DONE:
            return None
        return counted[-1].error

    @property
    def hint(self) -> Message | None:
        """Latest hint for the open question; None if there is no such hint."""
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


class StoredState(Struct, frozen=True):
    interviews: dict[str, StoredInterview]
    """Interviews that have a file, by id."""
    listed: list[Interview]
    """Interviews in the user's list, newest first."""


def read_stored_state(root: Path) -> StoredState:
    """Return the interviews and the user's list that are stored in a data directory."""
    interviews = [_read_interview(path) for path in root.glob("objects/interview/*/*.sqlite")]
    lists = [_read_list(path) for path in root.glob("objects/user-interviews/*/*.sqlite")]
    found = {interview.name: interview for interview in interviews if interview is not None}
    return StoredState(found, lists[0] if lists else [])


@contextmanager
def _open_copy(path: Path) -> Iterator[apsw.Connection]:
    """Open a copy of a database as a crash would leave it, since the server has locked the
    original."""
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
    with _open_copy(path) as connection:
        if not connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'interviews'"
        ).fetchall():
            return []
        rows: list[Any] = connection.execute(
            "SELECT view FROM interviews WHERE NOT deleting ORDER BY created_at DESC, id"
        ).fetchall()
    return [msgspec.json.decode(row[0], type=Interview) for row in rows]


def _read_interview(path: Path) -> StoredInterview | None:
    with _open_copy(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'turns'").fetchall():
            return None  # the schema does not exist yet
        name = connection.execute("SELECT name FROM _object").fetchone()
        pairs: list[Any] = connection.execute("SELECT key, value FROM _kv").fetchall()
        messages = connection.execute(
            "SELECT id, role, kind, text, source, position, created_at, edited, intent, topic"
            " FROM messages ORDER BY position"
        ).fetchall()
        turns = connection.execute(
            "SELECT id, step, state, attempt, recording, error FROM turns ORDER BY number"
        ).fetchall()
        alarm = connection.execute("SELECT due FROM _alarm").fetchone()
        recordings = connection.execute("SELECT id FROM recordings").fetchall()
    if name is None:
        return None
    values: dict[str, Any] = dict(pairs)
    view = values.get("view")
    return StoredInterview(
        name=str(name[0]),
        view=None if view is None else msgspec.json.decode(view, type=Interview),
        messages=tuple(map(_parse_message, messages)),
        turns=tuple(map(_parse_turn, turns)),
        alarm=None if alarm is None else float(str(alarm[0])),
        list_update_pending="list_update_pending" in values,
        recordings=frozenset(str(row[0]) for row in recordings),
        history_summary=msgspec.json.decode(
            values.get("history_summary", b"{}"), type=HistorySummary
        ),
    )


def _parse_message(row: Any) -> Message:
    id, role, kind, text, source, position, created_at, edited, intent, topic = row
    return Message(
        id=id,
        role=Role(role),
        kind=MessageKind(kind),
        text=text,
        source=Source(source),
        position=position,
        created_at=created_at,
        edited=bool(edited),
        intent=None if intent is None else Intent(intent),
        topic=topic,
    )


def _parse_turn(row: Any) -> StoredTurn:
    id, step, state, attempt, recording, error = row
    stored = None if error is None else msgspec.json.decode(error, type=Error)
    return StoredTurn(id, Step(step), TurnState(state), attempt, recording, stored)
