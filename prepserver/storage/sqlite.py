"""Opening, renaming and removing SQLite databases, and a database that threads can share."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from prepserver.errors import StorageError

__all__ = [
    "CorruptDatabase",
    "Database",
    "cannot_open",
    "invalidate",
    "open_database",
    "remove_database",
    "set_aside",
    "to_storage_error",
]

_SUFFIXES = ("", "-wal", "-shm")
"""Suffixes of a database's files: the database itself, its write-ahead log, the log's index."""


class CorruptDatabase(StorageError):
    """The file is damaged, or is not an SQLite database."""


def open_database(
    path: Path,
    *,
    vfs: str | None = None,
    create: bool = True,
    read_only: bool = False,
    private: bool = False,
    exclusive: bool = False,
    durable: bool = True,
    incremental_vacuum: bool = False,
    busy_timeout: float = 0.0,
) -> apsw.Connection:
    """Open an SQLite database, by default in WAL mode, and create a missing file.

    `vfs` is the name of SQLite's interface to the file system; None selects the default. If
    `create` is false or `read_only` is true, the file must exist, and `exclusive`, `durable` and
    `incremental_vacuum` have no effect. `private` creates a missing file with mode 0600.
    `exclusive` holds SQLite's lock until the connection is closed, which saves the -shm file and a
    lock for each statement. If `durable` is true, a commit waits for the disk; otherwise a power
    loss may undo the latest commits. `incremental_vacuum` allows unused pages to be returned to the
    file system; it takes effect in a new file only. `busy_timeout` is the maximum number of seconds
    to wait for another process's lock. The call blocks on the disk. Raises StorageError if the
    database cannot be opened, or its subclass CorruptDatabase if the file is damaged.
    """
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    if create and not read_only:
        flags |= apsw.SQLITE_OPEN_CREATE
    try:
        if private and create and not read_only:
            path.touch(0o600)  # before SQLite creates it: the journal gets the same mode
        connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    except (apsw.Error, OSError) as error:
        raise cannot_open(path, error) from error
    try:
        connection.set_busy_timeout(round(busy_timeout * 1_000))
        if create and not read_only:
            if incremental_vacuum:
                connection.pragma("auto_vacuum", "incremental")  # before the first page is written
            if exclusive:
                connection.pragma("locking_mode", "exclusive")  # before WAL mode: no -shm file
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full" if durable else "normal")
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    return connection


def cannot_open(path: Path, error: Exception) -> StorageError:
    """Return the error to raise when opening `path` has failed with `error`."""
    damaged = isinstance(error, apsw.NotADBError | apsw.CorruptError)
    kind = CorruptDatabase if damaged else StorageError
    if damaged:
        advice = "Restore the database from a backup."
    elif _is_full(error):
        advice = "Free space on the disk."
    else:
        advice = "Check the disk and the file's permissions."
    return kind(f"The database {path.name} cannot be opened: {_reason(error)}. {advice}")


def to_storage_error(error: Exception) -> StorageError:
    """Return the error to raise when reading or writing an open database has failed with
    `error`."""
    if _is_full(error):
        return StorageError(
            "The server's disk is full, and nothing was changed. Free space on it, then try again."
        )
    return StorageError(
        f"The server's disk failed ({_reason(error)}), and nothing was changed. Try again."
    )


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, apsw.FullError)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def invalidate(connection: apsw.Connection) -> None:
    """Overwrite the commit that a failed sync has left in the journal.

    That commit is complete in the journal and would count as committed when the file is next
    opened. Writing the user version again replaces it with a commit that changes nothing. SQLite's
    errors are ignored.
    """
    with suppress(apsw.Error):
        connection.pragma("user_version", int(connection.pragma("user_version")))


def set_aside(path: Path) -> Path:
    """Rename a damaged database to `NAME.damaged`, and its journal to match. Return the new path.

    The call blocks on the disk. Raises OSError if the disk fails.
    """
    damaged = path.with_name(f"{path.name}.damaged")
    for suffix in _SUFFIXES:
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.replace(damaged.with_name(damaged.name + suffix))
    return damaged


def remove_database(path: Path) -> None:
    """Remove a closed database and its journal.

    The call blocks on the disk. Raises OSError if the disk fails.
    """
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class Database:
    """Database that threads share. It runs one transaction at a time and commits durably."""

    def __init__(
        self, path: Path, schema: str, *, private: bool = False, vfs: str | None = None
    ) -> None:
        """Open or create the database at `path`, in a folder that is created if it is missing.

        `schema` runs at each opening, so it must be idempotent. `private` and `vfs` are passed to
        `open_database`. The call blocks on the disk. Raises StorageError if the database cannot be
        opened.
        """
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_open(path, error) from error
        self._connection = open_database(path, vfs=vfs, private=private, busy_timeout=5.0)
        try:
            self._connection.execute(schema)
        except apsw.Error as error:
            self._connection.close()
            raise cannot_open(path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Run the `with` block as a transaction: commit at its end, or roll back on an exception.

        A commit is durable when the block has ended. The method blocks on the disk and must be
        called from a thread. If the disk fails, nothing is saved, and StorageError is raised.
        """
        with self._lock:
            try:
                with self._connection:
                    yield self._connection
            except apsw.Error as error:
                invalidate(self._connection)
                raise to_storage_error(error) from error

    def close(self) -> None:
        # Every commit is durable in the journal, even if it cannot be moved into the file now.
        with self._lock, suppress(apsw.Error):
            self._connection.close()
