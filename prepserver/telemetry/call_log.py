"""Call log: the outcome of every model call, in an SQLite database beside the interviews.

Records are buffered and written once a second, off the event loop. A crash may lose the records of
the last second, but no call ever waits for the log or fails because of an error in the log. The
text of prompts and replies is stored only if the server is configured to keep it.
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

__all__ = ["CallLog", "CallQuery", "call_log_path", "find_calls", "open_read_only"]

FLUSH_SECONDS = 1.0
PRUNE_SECONDS = 600.0
MAX_PENDING = 10_000
"""Maximum number of buffered records. A full buffer discards its oldest records."""
PRUNE_BATCH = 1_000
"""Maximum number of records deleted per transaction while the log is too large."""
MAX_QUERY_ROWS = 1_000

COLUMNS = tuple(field.name for field in msgspec.structs.fields(CallRecord))
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    at REAL NOT NULL, kind TEXT NOT NULL, purpose TEXT NOT NULL, user TEXT NOT NULL,
    interview TEXT NOT NULL, request TEXT NOT NULL, metadata TEXT NOT NULL, model TEXT NOT NULL,
    fallback_index INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, audio REAL NOT NULL,
    queued REAL NOT NULL, first_token REAL, transcript_lag REAL, caption_lag REAL,
    duration REAL NOT NULL, compute REAL NOT NULL, retries INTEGER NOT NULL, shared TEXT NOT NULL,
    outcome TEXT NOT NULL, prompt TEXT, reply TEXT
);
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (at);
CREATE INDEX IF NOT EXISTS calls_by_user ON calls (user, at);
CREATE INDEX IF NOT EXISTS calls_by_interview ON calls (interview, at);
CREATE INDEX IF NOT EXISTS calls_by_purpose ON calls (purpose, at);
"""
UPGRADE_FROM_0 = """
ALTER TABLE calls RENAME COLUMN step TO fallback_index;
ALTER TABLE calls RENAME COLUMN first TO first_token;
ALTER TABLE calls RENAME COLUMN lag TO transcript_lag;
UPDATE calls SET kind = 'transcribe_live' WHERE kind = 'listen';
UPDATE calls SET shared = 'in_flight' WHERE shared = 'flight';
"""
INSERT = f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"

log = structlog.get_logger(__name__)


class CallQuery(Struct, frozen=True, kw_only=True):
    """Filter for logged calls. An empty string or None matches every call."""

    user: str = ""
    interview: str = ""
    purpose: str = ""
    since: float | None = None
    """Earliest start of a matching call, in seconds since the Unix epoch."""
    until: float | None = None
    """Exclusive upper bound of the start of a matching call, in seconds since the Unix epoch."""
    limit: int = 100


class CallLog:
    """Log of the model calls of one server."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        keep_text: bool = False,
        max_age: float = 30 * 86_400.0,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """Open or create the database at `path`.

        Records are deleted when they are older than `max_age` seconds, or when the database without
        its journal exceeds `max_bytes` bytes. A damaged database is renamed to `*.damaged` and
        replaced with an empty one. Raises StorageError if the database cannot be opened.
        """
        self.path = path
        self.keep_text = keep_text
        self._clock = clock
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._pending: list[CallRecord] = []
        self._erased_interviews: set[str] = set()
        self._lock = threading.Lock()
        self._flush_lock = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = _open(path)
        except CorruptDatabase as error:
            # A damaged log must not keep the server from starting.
            log.error("call_log.set_aside", error=str(error), file=set_aside(path).name)
            self._connection = _open(path)

    def start(self) -> None:
        """Start the background task that writes the buffered records and deletes old ones."""
        self._writer = asyncio.create_task(self._write_periodically())

    def add(self, record: CallRecord) -> None:
        """Buffer the record of a finished call; the next flush, within a second, writes it.

        If the interview was deleted, the prompt and the reply are erased first.
        """
        if record.interview in self._erased_interviews:
            record.prompt = record.reply = None
        self._pending.append(record)
        if len(self._pending) > MAX_PENDING:
            del self._pending[0]

    async def _write_periodically(self) -> None:
        pruned_at = float("-inf")
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await self.flush()
            if self._clock.monotonic() >= pruned_at + PRUNE_SECONDS:
                pruned_at = self._clock.monotonic()
                await self.prune()

    async def flush(self) -> None:
        """Write the buffered records. Failed writes are retried at the next flush."""
        async with self._flush_lock:
            records, self._pending = self._pending, []
            if not records:
                return
            try:
                await asyncio.to_thread(self._insert, records)
            except apsw.Error as error:
                self._pending = [*records, *self._pending][-MAX_PENDING:]
                log.error("call_log.write_failed", error=str(error), pending=len(self._pending))

    def _insert(self, records: Sequence[CallRecord]) -> None:
        with self._lock, self._connection:
            self._connection.executemany(INSERT, (_to_row(record) for record in records))

    async def prune(self) -> None:
        """Delete the records that are too old, then the oldest ones while the log is too large."""
        try:
            deleted = await asyncio.to_thread(self._prune)
        except apsw.Error as error:
            log.error("call_log.prune_failed", error=str(error))
        else:
            if deleted:
                log.info("call_log.pruned", records=deleted)

    def _prune(self) -> int:
        with self._lock, self._connection:
            self._connection.execute(
                "DELETE FROM calls WHERE at < ?", (self._clock.now() - self._max_age,)
            )
            deleted = self._connection.changes()
        # Delete in batches, so that writes can take the lock in between.
        while True:
            with self._lock, self._connection:
                self._connection.execute("PRAGMA incremental_vacuum").fetchall()
                if self._used_bytes() <= self._max_bytes:
                    return deleted
                self._connection.execute(
                    "DELETE FROM calls WHERE rowid IN"
                    " (SELECT rowid FROM calls ORDER BY at, rowid LIMIT ?)",
                    (PRUNE_BATCH,),
                )
                if not self._connection.changes():
                    return deleted  # only empty tables remain
                deleted += self._connection.changes()

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(str(self._connection.pragma(name)))
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    async def erase_text(self, interview: str) -> None:
        """Erase the prompts and replies of a deleted interview, but keep its call statistics."""
        self._erased_interviews.add(interview)  # covers calls that are still running
        async with self._flush_lock:
            for record in self._pending:
                if record.interview == interview:
                    record.prompt = record.reply = None
            try:
                await asyncio.to_thread(self._erase_text, interview)
            except apsw.Error as error:
                log.error("call_log.erase_failed", interview=interview, error=str(error))

    def _erase_text(self, interview: str) -> None:
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
        """Return the calls that match `query`, newest first.

        Calls that ended in the last second may be missing.
        """
        return await asyncio.to_thread(find_calls, self.path, query)

    async def close(self) -> None:
        """Write the buffered records and close the database."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self.flush()
        with self._lock:
            self._connection.close()


def _open(path: Path) -> apsw.Connection:
    connection = open_database(
        path, private=True, durable=False, incremental_vacuum=True, busy_timeout=5.0
    )
    try:
        connection.pragma("secure_delete", True)
        _create_or_upgrade(connection)
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    return connection


def _create_or_upgrade(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")  # two processes may open the log at once
    try:
        if connection.pragma("user_version") == 0 and connection.table_exists("main", "calls"):
            connection.execute(UPGRADE_FROM_0)
        connection.execute(SCHEMA)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # on a full disk, SQLite itself has rolled back
            connection.execute("ROLLBACK")
        raise


def call_log_path(data_dir: Path) -> Path:
    """Return the path of the call log in a server's data directory."""
    return data_dir / "calls.sqlite"


def open_read_only(path: Path) -> apsw.Connection:
    """Open the call log for reading, even while a server is writing to it.

    A log of an earlier version is upgraded first. Raises NotFound if there is no log.
    """
    if not path.is_file():
        raise NotFound(
            f"There is no call log at {path}. Start a server with this data directory to create "
            "one.",
            code=ErrorCode.NO_CALL_LOG,
        )
    connection = open_database(path, read_only=True, busy_timeout=5.0)
    try:
        version = connection.pragma("user_version")
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    if version == 0:
        connection.close()
        _open(path).close()
        connection = open_database(path, read_only=True, busy_timeout=5.0)
    return connection


def find_calls(path: Path, query: CallQuery) -> list[CallRecord]:
    """Return the logged calls that match `query`, newest first, even while a server is running.

    At most `query.limit` calls are returned, and never more than `MAX_QUERY_ROWS`. The call blocks
    on the disk and must run in a thread. Raises NotFound if there is no log.
    """
    connection = open_read_only(path)
    try:
        return _select(connection, query)
    finally:
        connection.close()


def _select(connection: apsw.Connection, query: CallQuery) -> list[CallRecord]:
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
        (*values, max(0, min(query.limit, MAX_QUERY_ROWS))),
    )
    return [_from_row(row) for row in rows]


def _to_row(record: CallRecord) -> tuple[object, ...]:
    values = msgspec.structs.asdict(record)
    values["metadata"] = msgspec.json.encode(record.metadata).decode()
    return tuple(values[name] for name in COLUMNS)


def _from_row(row: Sequence[object]) -> CallRecord:
    values = dict(zip(COLUMNS, row, strict=True))
    values["metadata"] = msgspec.json.decode(str(values["metadata"]))
    return msgspec.convert(values, CallRecord)
