"""One object's own SQLite database: SQL, key-value, and the alarm that belongs to the state.

A handler is one transaction. `begin` and the statements run on the event loop, where they only
touch memory and the page cache; `commit` waits for the disk and is called from a thread.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
from msgspec import Struct

from prepserver.errors import PrepServerError

__all__ = ["Alarm", "Storage", "StorageError", "peek"]

T = TypeVar("T")

_SYSTEM = """
CREATE TABLE IF NOT EXISTS _object (id INTEGER PRIMARY KEY CHECK (id = 0), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _alarm (
    id INTEGER PRIMARY KEY CHECK (id = 0), due REAL NOT NULL, retry_count INTEGER NOT NULL
);
"""


class StorageError(PrepServerError):
    """The disk refused; what waited for the write was discarded."""

    default_code = "storage"
    status = 503
    default_retryable = True


class Alarm(Struct, frozen=True):
    due: float
    """Seconds since the Unix epoch."""
    retry_count: int


class Storage:
    """An open database. Not for use from two tasks at once: the mailbox sees to that."""

    def __init__(
        self, path: Path, name: str, migrations: Sequence[str], *, vfs: str | None = None
    ) -> None:
        """Open or create `path`; runs the migrations that it has not seen, each in order. `vfs`
        names the file system that SQLite goes through; None is its own.

        Blocks on the disk, so it is called from a thread. Raises StorageError.
        """
        self.path = path
        try:
            _make_folder(path.parent)
            self._connection = apsw.Connection(str(path), vfs=vfs)
        except (apsw.Error, OSError) as error:
            raise _cannot_open(path, error) from error
        try:
            self._connection.set_busy_timeout(5_000)
            self._connection.pragma("journal_mode", "wal")
            # FULL makes each commit in WAL mode wait for the disk: acknowledged means durable.
            self._connection.pragma("synchronous", "full")
            self._connection.pragma("foreign_keys", True)
            self._migrate(name, migrations)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, apsw.Error):
                raise _cannot_open(path, error) from error
            raise

    def _migrate(self, name: str, migrations: Sequence[str]) -> None:
        version = int(self._connection.pragma("user_version"))
        if version > len(migrations):
            raise StorageError(
                f"The database {self.path.name} was written by a newer version of prep-server "
                f"(schema {version}, this one knows {len(migrations)}). Upgrade prep-server.",
                code="schema_too_new",
                retryable=False,
            )
        with self._connection:
            self._connection.execute(_SYSTEM)
            self._connection.execute("INSERT OR IGNORE INTO _object VALUES (0, ?)", (name,))
            for script in migrations[version:]:
                self._connection.execute(script)
            if version != len(migrations):
                self._connection.pragma("user_version", len(migrations))

    # --- SQL ----------------------------------------------------------------------------------

    def sql(self, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        return self._connection.execute(query, bindings).fetchall()

    def row(self, query: str, *bindings: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        rows = self.sql(query, *bindings)
        return rows[0] if rows else None

    # --- Key-value ----------------------------------------------------------------------------

    def get(self, key: str, type: type[T]) -> T | None:
        row = self.row("SELECT value FROM _kv WHERE key = ?", key)
        return None if row is None else msgspec.json.decode(row[0], type=type)

    def put(self, key: str, value: Any) -> None:
        self.sql("INSERT OR REPLACE INTO _kv VALUES (?, ?)", key, msgspec.json.encode(value))

    def delete(self, key: str) -> None:
        self.sql("DELETE FROM _kv WHERE key = ?", key)

    # --- Alarm --------------------------------------------------------------------------------

    def alarm(self) -> Alarm | None:
        row = self.row("SELECT due, retry_count FROM _alarm")
        return None if row is None else Alarm(*row)

    def set_alarm(self, due: float, retry_count: int = 0) -> None:
        self.sql("INSERT OR REPLACE INTO _alarm VALUES (0, ?, ?)", due, retry_count)

    def delete_alarm(self) -> None:
        self.sql("DELETE FROM _alarm")

    # --- Transactions -------------------------------------------------------------------------

    def begin(self) -> None:
        self._connection.execute("BEGIN")

    @property
    def wrote(self) -> bool:
        """Whether the open transaction changed anything."""
        return self._connection.txn_state("main") == apsw.SQLITE_TXN_WRITE

    def commit(self) -> None:
        """Make the open transaction durable. Raises StorageError, with nothing committed."""
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self.rollback()
            raise StorageError(f"Nothing was saved: the disk refused the write ({error}).") from (
                error
            )

    def rollback(self) -> None:
        """Undo the open transaction, if one is open."""
        # One that cannot be undone now is undone by closing the database, at the latest.
        with suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


def _make_folder(folder: Path) -> None:
    """With its parents, and durably: SQLite sees to a file's own folder, not to those above."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_open(path: Path, error: Exception) -> StorageError:
    return StorageError(f"The database {path.name} cannot be opened: {error}")


@contextmanager
def peek(path: Path, *, vfs: str | None = None) -> Iterator[tuple[str, Alarm | None]]:
    """An object's name and alarm, read from its file without activating it."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        name = connection.execute("SELECT name FROM _object").fetchone()
        alarm = connection.execute("SELECT due, retry_count FROM _alarm").fetchone()
        if name is None:
            raise apsw.SQLError("the file holds no object")
        yield str(name[0]), None if alarm is None else Alarm(*alarm)
    finally:
        connection.close()
