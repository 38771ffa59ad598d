"""One database of what is shared between objects. Threads take turns at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

__all__ = ["Database"]


class Database:
    """Its methods wait for the disk: call them from a thread."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open or create; `schema` may be run any number of times."""
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(5_000)
        self._connection.pragma("journal_mode", "wal")
        # Each commit waits for the disk: what was counted stays counted.
        self._connection.pragma("synchronous", "full")
        self._connection.execute(schema)

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Durable at its end; undone when something is raised in it."""
        with self._lock, self._connection:
            yield self._connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()
