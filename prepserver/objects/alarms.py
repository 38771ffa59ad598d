"""Index of all alarms, which finds the next due alarm without opening the objects' databases.

Each object's database is authoritative. An earlier time is written to the index before the
object's transaction commits, and a later time after the commit. A crash in between can leave an
entry that is too early or belongs to no alarm, but no entry is ever too late or missing. The object
decides whether its alarm is due.

Writes to the index do not wait for the disk, but survive the end of the process. If the machine
itself went down while the index was open, as a changed boot id shows, the index is rebuilt from the
objects' databases.
"""

import heapq
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import apsw
import structlog

from prepserver.errors import StorageError
from prepserver.storage.files import create_folder
from prepserver.storage.sqlite import cannot_open, open_database, set_aside, to_storage_error

__all__ = ["AlarmIndex", "read_boot_id"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS alarms (
    kind TEXT, name TEXT, due REAL NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS life (id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT);
"""

_UPSERT = "INSERT OR REPLACE INTO alarms VALUES (?, ?, ?)"

_CLOSED = "closed"
"""Value that is stored in place of a boot id when a complete and durable index is closed."""

log = structlog.get_logger(__name__)


class AlarmIndex:
    """Index of due times by (kind, name), on disk and in a heap.

    `write`, `lower`, `update`, `remove`, `rebuild` and `close` block on the disk and must be called
    from a thread. `pop_due_alarms` and `postpone` never wait for the disk, even while another
    thread is waiting for it.
    """

    def __init__(self, path: Path, *, boot: str, vfs: str | None = None) -> None:
        """Open or create the index. A file that cannot be opened is set aside as `NAME.damaged`.

        `boot` identifies the current boot of the machine; it is empty if the system has no such id.
        The call blocks on the disk. Raises StorageError or OSError if the disk fails.
        """
        create_folder(path.parent)
        self._boot = boot
        self._disk_lock = threading.Lock()
        self._memory_lock = threading.Lock()
        try:
            self._connection = _open(path, vfs)
        except StorageError:
            set_aside(path)
            self._connection = _open(path, vfs)
        try:
            self.complete = self._is_trusted()
            """True if the index is known to hold all alarms; otherwise `rebuild` is needed."""
            if not self.complete:
                with self._connection:
                    self._connection.execute("DELETE FROM alarms")
                    self._connection.pragma("user_version", 0)
            self._write_boot(boot)
            self._connection.pragma("synchronous", "off")
            rows = self._connection.execute("SELECT kind, name, due FROM alarms").fetchall()
        except apsw.Error as error:
            self._connection.close()
            raise cannot_open(path, error) from error
        self._stored = {(str(kind), str(name)): float(str(due)) for kind, name, due in rows}
        self._due = dict(self._stored)
        self._heap = [(due, *key) for key, due in self._due.items()]
        heapq.heapify(self._heap)

    def _is_trusted(self) -> bool:
        """Return True if the stored index was once complete and cannot have lost an entry since."""
        if int(self._connection.pragma("user_version")) < 1:
            return False
        row = self._connection.execute("SELECT boot FROM life").fetchone()
        return row is not None and row[0] in (_CLOSED, self._boot or _CLOSED)

    def _write_boot(self, boot: str) -> None:
        """Store durably the id of the boot in which the index is trusted; `_CLOSED` means any boot.

        The checkpoint moves the row into the database file. In the journal alone, the row could be
        lost, because later checkpoints truncate the journal without waiting for the disk.
        """
        self._connection.pragma("synchronous", "full")
        self._connection.execute("INSERT OR REPLACE INTO life VALUES (0, ?)", (boot,))
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def rebuild(self, alarms: Iterable[tuple[str, str, float]], *, complete: bool = True) -> None:
        """Add all `alarms`, each given as (kind, name, due).

        `complete` states that no object was left out, so that the next start can trust the index.
        If the disk fails, no alarm is added and apsw.Error is raised.
        """
        found = list(alarms)
        with self._disk_lock:
            with self._connection:
                self._connection.executemany(_UPSERT, found)
                if complete:
                    self._connection.pragma("user_version", 1)
            for kind, name, due in found:
                self._stored[kind, name] = due
                self._schedule(kind, name, due)
            self.complete = complete

    def lower(self, kind: str, name: str, due: float) -> None:
        """Write an object's entry unless the same or an earlier time is already stored.

        Raises StorageError if the disk fails.
        """
        known = self._stored.get((kind, name))
        if known is None or due < known:
            try:
                self.write(kind, name, due)
            except apsw.Error as error:
                raise to_storage_error(error) from error

    def update(self, kind: str, name: str, due: float | None) -> None:
        """Write an object's entry, or remove the entry if `due` is None.

        The object's alarm must already be durable. An error is logged, not raised: an entry that
        cannot be updated is too early or belongs to no alarm, which is harmless.
        """
        try:
            if due is None:
                self.remove(kind, name)
            else:
                self.write(kind, name, due)
        except apsw.Error as error:
            log.warning("alarm.index_outdated", kind=kind, error=str(error))
            if due is not None:
                self._schedule(kind, name, due)

    def write(self, kind: str, name: str, due: float) -> None:
        """Add or replace an entry. Raises apsw.Error if the disk fails."""
        with self._disk_lock:
            if self._stored.get((kind, name)) != due:
                self._connection.execute(_UPSERT, (kind, name, due))
                self._stored[kind, name] = due
            self._schedule(kind, name, due)

    def remove(self, kind: str, name: str) -> None:
        """Remove an entry, if there is one. Raises apsw.Error if the disk fails."""
        with self._disk_lock:
            if (kind, name) in self._stored:
                self._connection.execute(
                    "DELETE FROM alarms WHERE kind = ? AND name = ?", (kind, name)
                )
                del self._stored[kind, name]
            with self._memory_lock:
                self._due.pop((kind, name), None)

    def postpone(self, kind: str, name: str, due: float) -> None:
        """Schedule a popped entry again, in memory only.

        The earlier time stays on disk, so that the alarm is due at once after a restart.
        """
        self._schedule(kind, name, due)

    def pop_due_alarms(self, now: float) -> list[tuple[str, str]]:
        """Return (kind, name) of every alarm that is due at `now`, the earliest first.

        The alarms are removed from the heap, but stay on disk until `remove` or `write` is called.
        """
        found = []
        with self._memory_lock:
            while self._heap and self._heap[0][0] <= now:
                due, kind, name = heapq.heappop(self._heap)
                if self._due.get((kind, name)) == due:
                    del self._due[kind, name]
                    found.append((kind, name))
        return found

    def _schedule(self, kind: str, name: str, due: float) -> None:
        with self._memory_lock:
            if self._due.get((kind, name)) != due:
                self._due[kind, name] = due
                heapq.heappush(self._heap, (due, kind, name))

    def close(self) -> None:
        with self._disk_lock:
            if self.complete:
                # If this fails, the index is rebuilt after the next boot: no harm is done.
                with suppress(apsw.Error):
                    self._write_boot(self._boot)  # makes the other entries durable first
                    self._write_boot(_CLOSED)
            self._connection.close()


def _open(path: Path, vfs: str | None) -> apsw.Connection:
    connection = open_database(path, vfs=vfs, exclusive=True)
    try:
        connection.execute(_SCHEMA)
        if connection.pragma("quick_check") != "ok":
            raise apsw.CorruptError("the alarm index is damaged")
    except apsw.Error as error:
        connection.close()
        raise cannot_open(path, error) from error
    return connection


def read_boot_id() -> str:
    """Return an id that changes at each boot of the machine; empty if the system has no such id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
