"""SQLite database of one object: SQL, key-value pairs, and the alarm.

The first statement begins a transaction. Statements run on the event loop, where they touch only
memory and the page cache; `commit` waits for the disk and is called from a thread. Several
handlers may share a transaction; a savepoint allows one handler's writes to be rolled back alone.
"""

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
from msgspec import Struct

from prepserver.errors import StorageError
from prepserver.storage.files import create_folder
from prepserver.storage.sqlite import (
    cannot_open,
    invalidate,
    open_database,
    remove_database,
    to_storage_error,
)
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Alarm", "Storage", "read_stored_alarm"]

T = TypeVar("T")

_SYSTEM_SCHEMA = """
CREATE TABLE IF NOT EXISTS _object (id INTEGER PRIMARY KEY CHECK (id = 0), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _alarm (
    id INTEGER PRIMARY KEY CHECK (id = 0), due REAL NOT NULL, retry_count INTEGER NOT NULL
);
"""

_SAVEPOINT = "handler"

_ENVIRONMENT_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.NoMemError,
)
"""Errors of the disk, the file or the machine, as opposed to errors in the statement."""


class Alarm(Struct, frozen=True):
    due: float
    """Time at which the alarm is due, in seconds since the Unix epoch."""
    retry_count: int


class Storage:
    """Open database of one object, which only one handler at a time may use."""

    def __init__(
        self, path: Path, name: str, migrations: Sequence[str], *, vfs: str | None = None
    ) -> None:
        """Open or create the database at `path`, and run all missing migrations in order.

        `vfs` names the VFS that SQLite uses; None means the default. The call blocks on the disk
        and must run in a thread. Raises StorageError if the database cannot be opened or was
        written by a newer version.
        """
        self.path = path
        self._in_transaction = False
        self._empty = False
        """True if opening this storage created the file and nothing has been stored in it since."""
        try:
            create_folder(path.parent)
        except OSError as error:
            raise cannot_open(path, error) from error
        self._connection = open_database(path, vfs=vfs, exclusive=True)
        try:
            self._connection.pragma("foreign_keys", True)
            self._migrate(name, migrations)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, apsw.Error):
                raise cannot_open(path, error) from error
            raise

    def _migrate(self, name: str, migrations: Sequence[str]) -> None:
        version = int(self._connection.pragma("user_version"))
        if version > len(migrations):
            raise StorageError(
                f"The database {self.path.name} was written by a newer version of prep-server "
                f"(schema {version}; this version knows {len(migrations)}). Upgrade prep-server.",
                code=ErrorCode.SCHEMA_TOO_NEW,
                retryable=False,
            )
        initialised = self._is_initialised()
        if version == len(migrations) and initialised:
            return
        with self._connection:
            self._connection.execute(_SYSTEM_SCHEMA)
            self._connection.execute("INSERT OR IGNORE INTO _object VALUES (0, ?)", (name,))
            for script in migrations[version:]:
                self._connection.execute(script)
            self._connection.pragma("user_version", len(migrations))
        self._empty = version == 0 and not initialised

    def _is_initialised(self) -> bool:
        """Return True if the file holds an object; a new file has no tables."""
        query = "SELECT 1 FROM sqlite_schema WHERE name = '_object'"
        return self._connection.execute(query).fetchone() is not None

    # --- SQL ----------------------------------------------------------------------------------

    def sql(self, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return all rows.

        Raises StorageError if the disk fails, and apsw.Error if the statement itself is wrong.
        """
        try:
            if not self._in_transaction:
                self._connection.execute("BEGIN")
                self._in_transaction = True
            self._require_open_transaction()
            return self._connection.execute(query, bindings).fetchall()
        except _ENVIRONMENT_ERRORS as error:
            raise to_storage_error(error) from error

    def row(self, query: str, *bindings: Any) -> tuple[Any, ...] | None:
        """Run one statement and return the first row, or None. Raises the same errors as `sql`."""
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

    def get_alarm(self) -> Alarm | None:
        row = self.row("SELECT due, retry_count FROM _alarm")
        return None if row is None else Alarm(*row)

    def set_alarm(self, due: float, retry_count: int = 0) -> None:
        self.sql("INSERT OR REPLACE INTO _alarm VALUES (0, ?, ?)", due, retry_count)

    def delete_alarm(self) -> None:
        self.sql("DELETE FROM _alarm")

    # --- Transactions -------------------------------------------------------------------------

    @property
    def has_writes(self) -> bool:
        """True if a transaction is open and has changed the database."""
        return self._in_transaction and self._connection.txn_state("main") == apsw.SQLITE_TXN_WRITE

    def savepoint(self) -> bool:
        """Set a savepoint for `rollback_to`. Return True if a savepoint was set.

        Without an open transaction, none is set, and `rollback_to` rolls back the whole transaction
        that the handler begins. Raises StorageError if the disk fails.
        """
        if not self._in_transaction:
            return False
        try:
            self._connection.execute(f"SAVEPOINT {_SAVEPOINT}")
        except _ENVIRONMENT_ERRORS as error:
            raise to_storage_error(error) from error
        return True

    def rollback_to(self, nested: bool) -> None:
        """Roll back to the last savepoint or, if `nested` is false, roll back the transaction.

        `nested` is the value that `savepoint` returned. Raises StorageError if earlier writes are
        lost as well: SQLite itself rolls back the whole transaction if the disk is full or broken.
        """
        if not nested:
            self.rollback()
            return
        self._require_open_transaction()
        try:
            self._connection.execute(f"ROLLBACK TO {_SAVEPOINT}")
            self._connection.execute(f"RELEASE {_SAVEPOINT}")
        except apsw.Error as error:
            raise to_storage_error(error) from error

    def release(self, nested: bool) -> None:
        """Release the last savepoint and keep the writes made since then.

        `nested` is the value that `savepoint` returned. Raises StorageError if SQLite has rolled
        back those writes and the handler has ignored the error.
        """
        self._require_open_transaction()
        if nested:
            self._connection.execute(f"RELEASE {_SAVEPOINT}")

    def commit(self) -> None:
        """Make the open transaction durable, if there is one.

        Raises StorageError if the disk fails; the transaction is then rolled back.
        """
        try:
            if self._in_transaction:
                self._require_open_transaction()
                # Clear it before the commit: a commit that fails may have been written anyway.
                self._empty = self._empty and not self.has_writes
                self._connection.execute("COMMIT")
                self._in_transaction = False
        except (apsw.Error, StorageError) as error:
            self.rollback()
            invalidate(self._connection)
            if isinstance(error, StorageError):
                raise
            raise to_storage_error(error) from error

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        if not self._in_transaction:
            return
        # If the rollback fails now, closing the database rolls back.
        with suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._in_transaction = False

    def _require_open_transaction(self) -> None:
        """Raise StorageError if SQLite itself has rolled back the transaction.

        SQLite does so if the disk is full or broken. Later statements must not run as if they were
        part of the lost transaction.
        """
        if self._in_transaction and not self._connection.in_transaction:
            raise StorageError("The server's disk failed, and nothing was changed. Try again.")

    def close(self) -> None:
        """Close the database, and remove its files if nothing was ever stored.

        A request for an object that never existed or was removed therefore leaves no file. The
        call blocks on the disk. Raises OSError or apsw.Error if the disk fails.
        """
        self._connection.close()
        if self._empty:
            remove_database(self.path)


def read_stored_alarm(path: Path, *, vfs: str | None = None) -> tuple[str, Alarm | None] | None:
    """Return an object's name and alarm from its file, or None if the file holds no object yet.

    The object is not woken. The call blocks on the disk. Raises StorageError if the file cannot be
    read.
    """
    with closing(open_database(path, vfs=vfs, create=False)) as connection:
        try:
            name = connection.execute("SELECT name FROM _object").fetchone()
            alarm = connection.execute("SELECT due, retry_count FROM _alarm").fetchone()
        except apsw.SQLError:
            return None  # no such table
        except apsw.Error as error:
            raise cannot_open(path, error) from error
    if name is None:
        return None
    return str(name[0]), None if alarm is None else Alarm(*alarm)
