"""What became of every call, in a database beside the interviews.

Records are collected and written together off the event loop, once a second: a crash may lose the
last second of them, and no call ever waits for them or fails because of them. The text of prompts
and replies is kept only when that was asked for.
"""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec
import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import NotFound
from prepserver.storage.sqlite import (
    CorruptDatabase,
    cannot_open,
    open_database,
    set_aside,
)
from prepserver.telemetry.calls import CallRecord
from prepserver.wire.error_codes import ErrorCode

__all__ = ["CallLog", "CallQuery", "call_log_path", "find", "read"]

FLUSH_SECONDS = 1.0
PRUNE_SECONDS = 600.0
MOST_PENDING = 10_000
"""Records that wait to be written; the oldest go when a disk does not take them."""
PRUNED_AT_ONCE = 1_000
LONGEST_ANSWER = 1_000
"""Records that a query gives, at most."""

COLUMNS = tuple(field.name for field in msgspec.structs.fields(CallRecord))
SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    at REAL NOT NULL, kind TEXT NOT NULL, purpose TEXT NOT NULL, user TEXT NOT NULL,
    interview TEXT NOT NULL, request TEXT NOT NULL, metadata TEXT NOT NULL, model TEXT NOT NULL,
    step INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, audio REAL NOT NULL, queued REAL NOT NULL, first REAL,
    lag REAL, caption_lag REAL, duration REAL NOT NULL, compute REAL NOT NULL,
    retries INTEGER NOT NULL, shared TEXT NOT NULL, outcome TEXT NOT NULL, prompt TEXT, reply TEXT
);
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (at);
CREATE INDEX IF NOT EXISTS calls_by_user ON calls (user, at);
CREATE INDEX IF NOT EXISTS calls_by_interview ON calls (interview, at);
CREATE INDEX IF NOT EXISTS calls_by_purpose ON calls (purpose, at);
"""
INSERT = f"INSERT INTO calls VALUES ({', '.join('?' * len(COLUMNS))})"

log = structlog.get_logger(__name__)


class CallQuery(Struct, frozen=True, kw_only=True):
    """Which calls to show; what is empty or None does not matter."""

    user: str = ""
    interview: str = ""
    purpose: str = ""
    since: float | None = None
    """Seconds since the Unix epoch; `until` is no longer part of it."""
    until: float | None = None
    limit: int = 100


class CallLog:
    """The log of one server."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        keep_text: bool = False,
        max_age: float = 30 * 86_400.0,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """`max_age` in seconds; `max_bytes` of the database without its journal."""
        self.path = path
        self.keep_text = keep_text
        self._clock = clock
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._pending: list[CallRecord] = []
        self._forgotten: set[str] = set()
        self._lock = threading.Lock()
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = _opened(path)
        except CorruptDatabase as error:
            # A log is not worth a server that does not start.
            log.error("calllog.set_aside", error=str(error), file=set_aside(path).name)
            self._connection = _opened(path)

    def start(self) -> None:
        """Begin to write what is added."""
        self._writer = asyncio.create_task(self._write_regularly())

    def add(self, record: CallRecord) -> None:
        """Note a call that has ended; it is written within a second."""
        if record.interview in self._forgotten:
            record.prompt = record.reply = None
        self._pending.append(record)
        if len(self._pending) > MOST_PENDING:
            del self._pending[0]

    async def _write_regularly(self) -> None:
        pruned = float("-inf")
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await self.flush()
            if self._clock.monotonic() >= pruned + PRUNE_SECONDS:
                pruned = self._clock.monotonic()
                await self.prune()

    async def flush(self) -> None:
        """Write what was added; what the disk does not take is tried again the next time."""
        async with self._writing:
            records, self._pending = self._pending, []
            if not records:
                return
            try:
                await asyncio.to_thread(self._insert, records)
            except apsw.Error as error:
                self._pending = [*records, *self._pending][-MOST_PENDING:]
                log.error("calllog.not_written", error=str(error), waiting=len(self._pending))

    def _insert(self, records: Sequence[CallRecord]) -> None:
        with self._lock, self._connection:
            self._connection.executemany(INSERT, (_row(record) for record in records))

    async def prune(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        try:
            removed = await asyncio.to_thread(self._prune)
        except apsw.Error as error:
            log.error("calllog.not_pruned", error=str(error))
        else:
            if removed:
                log.info("calllog.pruned", records=removed)

    def _prune(self) -> int:
        with self._lock, self._connection:
            self._connection.execute(
                "DELETE FROM calls WHERE at < ?", (self._clock.now() - self._max_age,)
            )
            removed = self._connection.changes()
        # In portions: the lock is free between them for what is to be written meanwhile.
        while True:
            with self._lock, self._connection:
                self._connection.execute("PRAGMA incremental_vacuum").fetchall()
                if self._bytes() <= self._max_bytes:
                    return removed
                self._connection.execute(
                    "DELETE FROM calls WHERE rowid IN"
                    " (SELECT rowid FROM calls ORDER BY at, rowid LIMIT ?)",
                    (PRUNED_AT_ONCE,),
                )
                if not self._connection.changes():
                    return removed  # nothing is left but the tables themselves
                removed += self._connection.changes()

    def _bytes(self) -> int:
        pages, free, size = (
            int(str(self._connection.pragma(name)))
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    async def forget(self, interview: str) -> None:
        """Remove the text that was logged of an interview that is no more; the figures stay."""
        self._forgotten.add(interview)  # also of its calls that are still to end
        async with self._writing:
            for record in self._pending:
                if record.interview == interview:
                    record.prompt = record.reply = None
            try:
                await asyncio.to_thread(self._forget, interview)
            except apsw.Error as error:
                log.error("calllog.text_not_removed", interview=interview, error=str(error))

    def _forget(self, interview: str) -> None:
        with self._lock, self._connection:
            self._connection.execute(
                "UPDATE calls SET prompt = NULL, reply = NULL WHERE interview = ?"
                " AND (prompt IS NOT NULL OR reply IS NOT NULL)",
                (interview,),
            )
        with self._lock:
            if self._connection.changes():
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    async def find(self, query: CallQuery) -> list[CallRecord]:
        """The calls that fit, the newest first; those of the last second may be missing."""
        return await asyncio.to_thread(find, self.path, query)

    async def close(self) -> None:
        """Write what is still to be written."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self.flush()
        with self._lock:
            self._connection.close()


def _opened(path: Path) -> apsw.Connection:
    connection = open_database(
        path, private=True, durable=False, incremental_vacuum=True, busy_timeout=5.0
    )
    try:
        connection.pragma("secure_delete", True)
        connection.execute(SCHEMA)
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    return connection


def call_log_path(data_dir: Path) -> Path:
    """Where a server with this data directory writes its log."""
    return data_dir / "calls.sqlite"


def read(path: Path) -> apsw.Connection:
    """The log's database, also of a server that runs. Raises NotFound when there is none."""
    if not path.is_file():
        raise NotFound(
            f"There is no log of calls at {path}. A server that is started with this data "
            "directory writes one.",
            code=ErrorCode.NO_CALL_LOG,
        )
    return open_database(path, read_only=True, busy_timeout=5.0)


def find(path: Path, query: CallQuery) -> list[CallRecord]:
    """The calls that fit, the newest first, also of a server that runs.

    Waits for the disk: call it from a thread. Raises NotFound when there is no log.
    """
    connection = read(path)
    try:
        return _found(connection, query)
    finally:
        connection.close()


def _found(connection: apsw.Connection, query: CallQuery) -> list[CallRecord]:
    conditions, values = ["1"], []
    for condition, value in (
        ("user = ?", query.user or None),
        ("interview = ?", query.interview or None),
        ("purpose = ?", query.purpose or None),
        ("at >= ?", query.since),
        ("at < ?", query.until),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM calls WHERE {' AND '.join(conditions)}"
        " ORDER BY at DESC, rowid DESC LIMIT ?",
        (*values, max(0, min(query.limit, LONGEST_ANSWER))),
    )
    return [_record(row) for row in rows]


def _row(record: CallRecord) -> tuple[object, ...]:
    values = msgspec.structs.asdict(record)
    values["metadata"] = msgspec.json.encode(record.metadata).decode()
    return tuple(values[name] for name in COLUMNS)


def _record(row: Sequence[object]) -> CallRecord:
    values = dict(zip(COLUMNS, row, strict=True))
    values["metadata"] = msgspec.json.decode(str(values["metadata"]))
    return msgspec.convert(values, CallRecord)
