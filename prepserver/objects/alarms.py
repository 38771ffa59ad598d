"""When to wake which object: an index of the alarms that the objects themselves hold.

The truth is in each object's database. An earlier time is written here before the object's
transaction commits and a later one after it, so whatever is cut short, an entry may be early or
left over but never late or missing; the object decides what is due.
"""

import heapq
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw

__all__ = ["AlarmIndex"]


class AlarmIndex:
    """Due times by (kind, name). `put` and `drop` wait for the disk: call them from a thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(5_000)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS alarms (kind TEXT, name TEXT, due REAL NOT NULL,"
            " PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )
        rows = self._connection.execute("SELECT due, kind, name FROM alarms")
        self._heap: list[tuple[float, str, str]] = [
            (float(str(due)), str(kind), str(name)) for due, kind, name in rows
        ]
        heapq.heapify(self._heap)
        self._due = {(kind, name): due for due, kind, name in self._heap}

    def lower(self, kind: str, name: str, due: float) -> None:
        """Like `put`, but never to a later time."""
        known = self._due.get((kind, name))
        if known is None or due < known:
            self.put(kind, name, due)

    def put(self, kind: str, name: str, due: float) -> None:
        with self._lock:
            if self._due.get((kind, name)) != due:
                self._connection.execute(
                    "INSERT OR REPLACE INTO alarms VALUES (?, ?, ?)", (kind, name, due)
                )
                self._due[kind, name] = due
            heapq.heappush(self._heap, (due, kind, name))

    def drop(self, kind: str, name: str) -> None:
        with self._lock:
            if self._due.pop((kind, name), None) is not None:
                self._connection.execute(
                    "DELETE FROM alarms WHERE kind = ? AND name = ?", (kind, name)
                )

    def next_due(self) -> float | None:
        with self._lock:
            self._skip_stale()
            return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Iterator[tuple[str, str]]:
        """Everything due by `now`, earliest first; it stays on disk until `drop`."""
        while True:
            with self._lock:
                self._skip_stale()
                if not self._heap or self._heap[0][0] > now:
                    return
                _, kind, name = heapq.heappop(self._heap)
            yield kind, name

    def _skip_stale(self) -> None:
        while self._heap and self._due.get(self._heap[0][1:]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def close(self) -> None:
        with self._lock:
            self._connection.close()
