"""One object's own SQLite database: SQL, key-value, and the alarm that belongs to the state.

Handlers run in a transaction that begins with their first statement. Statements run on the event
loop, where they only touch memory and the page cache; `commit` waits for the disk and is called
from a thread. Several handlers may share a transaction: what one of them wrote is undone alone by
`mark` and `undo`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
from msgspec import Struct

from prepserver.errors import StorageError
from prepserver.storage.files import sync_folder
from prepserver.storage.sqlite import cannot_open, invalidate, refused
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Alarm", "Storage", "make_folder", "peek", "remove_files"]

T = TypeVar("T")

_SYSTEM = """
CREATE TABLE IF NOT EXISTS _object (id INTEGER PRIMARY KEY CHECK (id = 0), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _alarm (
    id INTEGER PRIMARY KEY CHECK (id = 0), due REAL NOT NULL, retry_count INTEGER NOT NULL
);
"""


_making = threading.Lock()

_MARK = "handler"
"""Name of the savepoint before a handler."""

_OF_THE_DISK = (
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
"""Errors that come from outside and not from the statement."""


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
            make_folder(path.parent)
            self._connection = apsw.Connection(str(path), vfs=vfs)
        except (apsw.Error, OSError) as error:
            raise cannot_open(path, error) from error
        self._begun = False
        self._blank = False
        """Whether this opening has made the file, and nothing was stored in it since."""
        try:
            # One process owns the data directory, so the lock need not be taken for each
            # statement, and the index of the journal can be on the heap: no -shm file.
            self._connection.pragma("locking_mode", "exclusive")
            self._connection.pragma("journal_mode", "wal")
            # FULL makes each commit in WAL mode wait for the disk: acknowledged means durable.
            self._connection.pragma("synchronous", "full")
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
                f"(schema {version}, this one knows {len(migrations)}). Upgrade prep-server.",
                code=ErrorCode.SCHEMA_TOO_NEW,
                retryable=False,
            )
        named = self._named()
        if version == len(migrations) and named:
            return
        with self._connection:
            self._connection.execute(_SYSTEM)
            self._connection.execute("INSERT OR IGNORE INTO _object VALUES (0, ?)", (name,))
            for script in migrations[version:]:
                self._connection.execute(script)
            self._connection.pragma("user_version", len(migrations))
        self._blank = version == 0 and not named

    def _named(self) -> bool:
        """Whether the file is an object's already; a new one has no tables."""
        query = "SELECT 1 FROM sqlite_schema WHERE name = '_object'"
        return self._connection.execute(query).fetchone() is not None

    # --- SQL ----------------------------------------------------------------------------------

    def sql(self, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows. Raises StorageError when the disk refuses;
        what is wrong with the statement itself is raised as apsw has it."""
        try:
            if not self._begun:
                self._connection.execute("BEGIN")
                self._begun = True
            self._require_whole()
            return self._connection.execute(query, bindings).fetchall()
        except _OF_THE_DISK as error:
            raise refused(error) from error

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

    @property
    def wrote(self) -> bool:
        """Whether the open transaction changed anything."""
        return self._begun and self._connection.txn_state("main") == apsw.SQLITE_TXN_WRITE

    def mark(self) -> bool:
        """Remember this point of the transaction for `undo`; False: its beginning is meant, since
        none is open. Raises StorageError."""
        if not self._begun:
            return False
        try:
            self._connection.execute(f"SAVEPOINT {_MARK}")
        except _OF_THE_DISK as error:
            raise refused(error) from error
        return True

    def undo(self, marked: bool) -> None:
        """Take back what was written since the last `mark`, which gave `marked`.

        Raises StorageError when what was written before it is lost as well: SQLite itself rolls
        a whole transaction back when the disk is full or broken.
        """
        if not marked:
            self.rollback()
            return
        self._require_whole()
        try:
            self._connection.execute(f"ROLLBACK TO {_MARK}")
            self._connection.execute(f"RELEASE {_MARK}")
        except apsw.Error as error:
            raise refused(error) from error

    def keep(self, marked: bool) -> None:
        """Forget the last `mark`, which gave `marked`; what was written since stays.

        Raises StorageError when it is lost, although the handler took no notice.
        """
        self._require_whole()
        if marked:
            self._connection.execute(f"RELEASE {_MARK}")

    def commit(self) -> None:
        """Make the open transaction durable. Raises StorageError, with nothing committed."""
        try:
            if self._begun:
                self._require_whole()
                # Before it is known how it ends: one that failed may have taken place.
                self._blank = self._blank and not self.wrote
                self._connection.execute("COMMIT")
                self._begun = False
        except (apsw.Error, StorageError) as error:
            self.rollback()
            invalidate(self._connection)
            raise refused(error) from error

    def rollback(self) -> None:
        """Undo the open transaction, if one is open."""
        if not self._begun:
            return
        # One that cannot be undone now is undone by closing the database, at the latest.
        with suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._begun = False

    def _require_whole(self) -> None:
        """SQLite itself rolls a transaction back when the disk is full or broken; what comes after
        that must not be taken for a part of it. Raises StorageError."""
        if self._begun and not self._connection.in_transaction:
            raise StorageError("Nothing was saved: the disk refused the write. Try again.")

    def close(self) -> None:
        self._connection.close()

    def release(self) -> None:
        """Close, and leave no file of an object that stored nothing: of one that somebody asked for
        when it was gone already, say. Blocks on the disk; raises OSError and apsw.Error."""
        self.close()
        if self._blank:
            remove_files(self.path)


def make_folder(folder: Path) -> None:
    """With its parents, and durably: SQLite sees to a file's own folder, not to those above.
    Blocks on the disk; raises OSError."""
    # Nobody takes a folder for durable that another thread is still making.
    with _making:
        missing = [one for one in (folder, *folder.parents) if not one.is_dir()]
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            sync_folder(one.parent)


def remove_files(path: Path) -> None:
    """A database that nobody has open, and its journal. Blocks on the disk; raises OSError."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


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
