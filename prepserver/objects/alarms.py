"""When to wake which object: an index of the alarms that the objects themselves hold.

The truth is in each object's database. An earlier time is written here before the object's
transaction commits and a later one after it, so whatever is cut short, an entry may be early or
left over but never late or missing; the object decides what is due.

The index does not wait for the disk: what was written survives the death of the process, and after
the death of the machine, which another boot id gives away, it is filled anew from the objects.
"""

import contextlib
import heapq
import threading
from collections.abc import Iterable
from pathlib import Path

import apsw
import structlog

from prepserver.errors import StorageError
from prepserver.objects.storage import make_folder

__all__ = ["AlarmIndex", "boot_id"]

_PUT = "INSERT OR REPLACE INTO alarms VALUES (?, ?, ?)"

_CLOSED = "closed"
"""In the place of a boot id: the index was complete and durable when it was closed."""

log = structlog.get_logger(__name__)


class AlarmIndex:
    """Due times by (kind, name). `put`, `lower`, `drop`, `fill` use the disk: call them from a
    thread. `pop_due` does not, not even while another thread waits."""

    def __init__(self, path: Path, *, boot: str, vfs: str | None = None) -> None:
        """Open or create; one that is damaged is put aside. `boot` tells one life of the machine
        from the next, empty where nothing does. `filled` says if the index can be trusted."""
        make_folder(path.parent)
        self._boot = boot
        self._disk = threading.Lock()
        self._memory = threading.Lock()
        try:
            self._connection = _open(path, vfs)
        except apsw.Error:
            for suffix in ("", "-wal", "-shm"):
                old = path.with_name(path.name + suffix)
                if old.exists():
                    old.replace(path.with_name(f"{path.name}.damaged{suffix}"))
            self._connection = _open(path, vfs)
        self.filled = self._whole()
        """Whether every object's alarm is in here; `fill` sees to it."""
        if not self.filled:
            with self._connection:
                self._connection.execute("DELETE FROM alarms")
                self._connection.pragma("user_version", 0)
        self._write_life(boot)
        self._connection.pragma("synchronous", "off")
        rows = self._connection.execute("SELECT kind, name, due FROM alarms")
        self._stored = {(str(kind), str(name)): float(str(due)) for kind, name, due in rows}
        self._due = dict(self._stored)
        self._heap = [(due, *key) for key, due in self._due.items()]
        heapq.heapify(self._heap)

    def _whole(self) -> bool:
        """Whether the index lost nothing since it was filled."""
        if int(self._connection.pragma("user_version")) < 1:
            return False
        life = self._connection.execute("SELECT boot FROM life").fetchone()
        return life is not None and life[0] in (_CLOSED, self._boot or _CLOSED)

    def _write_life(self, boot: str) -> None:
        """Durably, in the file itself: from now on the index can be trusted within this boot only,
        or again always. What stands in the journal alone would be lost with it, since the journal
        is moved into the file and begun anew without waiting for either."""
        self._connection.pragma("synchronous", "full")
        self._connection.execute("INSERT OR REPLACE INTO life VALUES (0, ?)", (boot,))
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def fill(self, alarms: Iterable[tuple[str, str, float]], *, whole: bool = True) -> None:
        """Take over (kind, name, due) of every object there is, all or nothing; `whole` says that
        none was left out, so that the index can be trusted at the next start."""
        found = list(alarms)
        with self._disk:
            with self._connection:
                self._connection.executemany(_PUT, found)
                if whole:
                    self._connection.pragma("user_version", 1)
            for kind, name, due in found:
                self._stored[kind, name] = due
                self._remember(kind, name, due)
            self.filled = whole

    def lower(self, kind: str, name: str, due: float) -> None:
        """Like `put`, but never to a later time. Raises StorageError."""
        known = self._stored.get((kind, name))
        if known is None or due < known:
            try:
                self.put(kind, name, due)
            except apsw.Error as error:
                raise StorageError(
                    f"Nothing was saved: the disk refused the alarm ({error})."
                ) from error

    def settle(self, kind: str, name: str, due: float | None) -> None:
        """`put`, or `drop` for None, when the object's own alarm is already durable.

        Never raises: an entry that cannot be brought up to date is early or left over.
        """
        try:
            if due is None:
                self.drop(kind, name)
            else:
                self.put(kind, name, due)
        except apsw.Error as error:
            log.warning("alarm.index_behind", kind=kind, error=str(error))
            if due is not None:
                self._remember(kind, name, due)

    def put(self, kind: str, name: str, due: float) -> None:
        with self._disk:
            if self._stored.get((kind, name)) != due:
                self._connection.execute(_PUT, (kind, name, due))
                self._stored[kind, name] = due
            self._remember(kind, name, due)

    def drop(self, kind: str, name: str) -> None:
        with self._disk:
            if (kind, name) in self._stored:
                self._connection.execute(
                    "DELETE FROM alarms WHERE kind = ? AND name = ?", (kind, name)
                )
                del self._stored[kind, name]
            with self._memory:
                self._due.pop((kind, name), None)

    def later(self, kind: str, name: str, due: float) -> None:
        """Give an entry that was popped another time in memory alone; the disk keeps the earlier
        one, so a restart looks at once."""
        self._remember(kind, name, due)

    def pop_due(self, now: float) -> list[tuple[str, str]]:
        """Everything due by `now`, earliest first; it stays on disk until `drop`."""
        found = []
        with self._memory:
            while self._heap and self._heap[0][0] <= now:
                due, kind, name = heapq.heappop(self._heap)
                if self._due.get((kind, name)) == due:
                    del self._due[kind, name]
                    found.append((kind, name))
        return found

    def _remember(self, kind: str, name: str, due: float) -> None:
        with self._memory:
            if self._due.get((kind, name)) != due:
                self._due[kind, name] = due
                heapq.heappush(self._heap, (due, kind, name))

    def close(self) -> None:
        with self._disk:
            if self.filled:
                # One that is not marked as closed is filled anew after a boot: no harm is done.
                with contextlib.suppress(apsw.Error):
                    self._write_life(self._boot)  # everything is durable before that is said
                    self._write_life(_CLOSED)
            self._connection.close()


def _open(path: Path, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs)
    try:
        connection.pragma("locking_mode", "exclusive")
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS alarms (kind TEXT, name TEXT, due REAL NOT NULL,"
            " PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS life (id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT)"
        )
        if connection.pragma("quick_check") != "ok":
            raise apsw.CorruptError("the index of alarms is damaged")
    except apsw.Error:
        connection.close()
        raise
    return connection


def boot_id() -> str:
    """Tells this life of the machine from any other; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
