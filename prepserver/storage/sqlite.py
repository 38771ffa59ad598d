"""One database of what is shared between objects. Threads take turns at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from prepserver.errors import StorageError

__all__ = ["Database", "cannot_open", "invalidate", "refused"]


class Database:
    """Its methods wait for the disk: call them from a thread."""

    def __init__(
        self, path: Path, schema: str, *, private: bool = False, vfs: str | None = None
    ) -> None:
        """Open or create; `schema` may be run any number of times. `private` makes a new file for
        the owner's eyes only. `vfs` names the file system that SQLite goes through; None is its
        own. Raises StorageError."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if private:
                path.touch(0o600)  # before SQLite does: its journal takes after it
            self._connection = apsw.Connection(str(path), vfs=vfs)
        except (apsw.Error, OSError) as error:
            raise cannot_open(path, error) from error
        try:
            self._connection.set_busy_timeout(5_000)
            self._connection.pragma("journal_mode", "wal")
            # Each commit waits for the disk: what was counted stays counted.
            self._connection.pragma("synchronous", "full")
            self._connection.execute(schema)
        except apsw.Error as error:
            self._connection.close()
            raise cannot_open(path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Durable at its end; undone when something is raised in it. Raises StorageError, with
        nothing kept, when the disk refuses."""
        with self._lock:
            try:
                with self._connection:
                    yield self._connection
            except apsw.Error as error:
                invalidate(self._connection)
                raise refused(error) from error

    def close(self) -> None:
        # All is in the journal, also when it cannot be moved into the file now.
        with self._lock, suppress(apsw.Error):
            self._connection.close()


def invalidate(connection: apsw.Connection) -> None:
    """What a failed sync leaves in the journal is whole, and would count as committed when the file
    is next opened: write something in its place that changes nothing."""
    with suppress(apsw.Error):
        connection.pragma("user_version", int(connection.pragma("user_version")))


def refused(error: Exception) -> StorageError:
    """What to raise when it was `error` that came of a write."""
    return StorageError(f"Nothing was saved: the disk refused ({error}). Try again.")


def cannot_open(path: Path, error: Exception) -> StorageError:
    """What to raise when it was `error` that came of opening the file."""
    return StorageError(f"The database {path.name} cannot be opened: {error}")
