"""Which objects are alive: one instance for each (kind, name), ever."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import Conflict, PrepServerError, StorageError
from prepserver.objects.alarms import AlarmIndex, boot_id
from prepserver.objects.connection import Connection
from prepserver.objects.freeing import give_back_memory
from prepserver.objects.instance import Instance, Kind, stopping
from prepserver.objects.storage import make_folder, peek
from prepserver.storage.sqlite import cannot_open
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import CLOSE_RESTART

__all__ = ["Registry", "RegistryCounts"]

IDLE_SECONDS = 10.0
ALARM_POLL = 0.25
"""Seconds between looks at the clock: an alarm fires within 1 s also when the clock is moved."""
UNREACHABLE_RETRY = 5.0
"""Seconds until an alarm is tried again whose object could not even note its failure."""

log = structlog.get_logger(__name__)


class RegistryCounts(Struct, frozen=True, kw_only=True):
    live: int
    """Objects with an instance and an open database."""
    hibernating: int
    """Objects that only have clients."""
    connections: int


class Registry:
    """Owns a data directory and every object in it."""

    def __init__(
        self,
        root: Path,
        kinds: Iterable[Kind],
        clock: Clock,
        *,
        vfs: str | None = None,
        executor: Executor | None = None,
        boot: str | None = None,
    ) -> None:
        """`vfs` names the file system that SQLite goes through; None is its own. `executor` runs
        what waits for the disk, and is shut down with the registry; None is a pool of threads.
        `boot` tells one life of the machine from the next; None asks the system."""
        self.root = root
        self.vfs = vfs
        self.clock = clock
        self.executor = executor or ThreadPoolExecutor(max_workers=8, thread_name_prefix="objects")
        self.alarms: AlarmIndex
        self._kinds = {kind.name: kind for kind in kinds}
        self._cells: dict[tuple[str, str], Instance] = {}
        self._told: set[asyncio.Task[None]] = set()
        self._housekeeping: list[asyncio.Task[None]] = []
        self._unread: list[tuple[str, Path]] = []
        """Kinds and files of objects that may have alarms which the index does not know."""
        self._lock: int | None = None
        self._boot = boot_id() if boot is None else boot
        self.closing = False

    async def start(self) -> None:
        """Raises Conflict when another process owns the data directory, StorageError when the disk
        fails."""
        self._lock = await asyncio.to_thread(_lock, self.root)
        try:
            self.alarms = await asyncio.to_thread(self._open_index)
        except BaseException:
            os.close(self._lock)
            raise
        self._housekeeping = [
            asyncio.create_task(self._watch_alarms()),
            asyncio.create_task(self._hibernate_idle()),
            asyncio.create_task(self._read_again()),
        ]

    # --- Addressing ---------------------------------------------------------------------------

    @property
    def counts(self) -> RegistryCounts:
        """How many objects there are in memory, for those who watch the server."""
        cells = list(self._cells.values())
        hibernating = sum(cell.hibernating for cell in cells)
        return RegistryCounts(
            live=len(cells) - hibernating,
            hibernating=hibernating,
            connections=sum(len(cell.connected()) for cell in cells),
        )

    async def settled(self) -> None:
        """Return when no handler of any object runs or waits."""
        while busy := [cell for cell in self._cells.values() if cell.busy]:
            await asyncio.gather(*(cell.settled() for cell in busy))

    def cell(self, kind: str, name: str) -> Instance:
        if self.closing:
            raise stopping()
        key = (kind, name)
        if key not in self._cells:
            self._cells[key] = Instance(self._kinds[kind], name, self._path(kind, name), self)
        return self._cells[key]

    async def call(self, kind: str, name: str, method: str, *arguments: Any) -> Any:
        """Call an object's method and wait until what it did is durable."""
        return await self.cell(kind, name).call(method, arguments)

    def connect(self, kind: str, name: str, connection: Connection) -> Instance:
        cell = self.cell(kind, name)
        cell.connect(connection)
        return cell

    def tell(
        self,
        kind: str,
        name: str,
        method: str,
        arguments: tuple[Any, ...],
        done: Callable[[], None],
    ) -> None:
        async def run() -> None:
            try:
                await self.call(kind, name, method, *arguments)
                done()
            except PrepServerError as error:
                log.warning("object.tell_failed", kind=kind, method=method, code=error.code)

        self.detach(run())

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside all objects; what it raises is logged."""

        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("object.work_failed")

        task = asyncio.create_task(run())
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    def gone(self, cell: Instance) -> None:
        if self._cells.get((cell.kind.name, cell.name)) is cell:
            del self._cells[cell.kind.name, cell.name]

    def _path(self, kind: str, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.root / "objects" / kind / digest[:2] / f"{digest}.sqlite"

    # --- Alarms -------------------------------------------------------------------------------

    def _open_index(self) -> AlarmIndex:
        path = self.root / "alarms.sqlite"
        try:
            index = AlarmIndex(path, boot=self._boot, vfs=self.vfs)
            if not index.filled:
                alarms = [*self._alarms_of(self._files())]
                index.fill(alarms, whole=not self._unread)
        except (apsw.Error, OSError) as error:
            raise cannot_open(path, error) from error
        return index

    def _files(self) -> Iterator[tuple[str, Path]]:
        for kind in self._kinds:
            for path in (self.root / "objects" / kind).glob("*/*.sqlite"):
                yield kind, path

    def _alarms_of(self, files: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, str, float]]:
        """Read from the files; those that cannot be read now are kept in `_unread`."""
        for kind, path in files:
            try:
                with peek(path, vfs=self.vfs) as (name, alarm):
                    if alarm is not None:
                        yield kind, name, alarm.due
            except apsw.SQLError:
                continue  # nothing was stored in it yet
            except (apsw.Error, OSError) as error:
                self._unread.append((kind, path))
                log.error("alarm.file_unread", file=path.name, error=str(error))

    async def _read_again(self) -> None:
        """A disk that failed at the start hides no alarm for longer than it fails."""

        def read() -> None:
            unread, self._unread = self._unread, []
            found = [*self._alarms_of(one for one in unread if one[1].exists())]
            try:
                for alarm in found:
                    self.alarms.lower(*alarm)  # the object may have set another one meanwhile
            except StorageError as error:
                self._unread = unread
                log.error("alarm.not_indexed", error=error.message)

        while self._unread:
            await self.clock.sleep(UNREACHABLE_RETRY)
            await asyncio.get_running_loop().run_in_executor(self.executor, read)

    async def _watch_alarms(self) -> None:
        while True:
            for kind, name in self.alarms.pop_due(self.clock.now()):
                if kind not in self._kinds:
                    log.error("alarm.of_unknown_kind", kind=kind)
                    continue
                self.detach(self._fire(kind, name))
            await self.clock.sleep(ALARM_POLL)

    async def _fire(self, kind: str, name: str) -> None:
        try:
            await self.cell(kind, name).fire()
        except PrepServerError as error:
            if error.code in (ErrorCode.DELETED, ErrorCode.STOPPING):
                return
            log.error("alarm.not_delivered", kind=kind, code=error.code)
            # The object cannot be reached, so its own alarm is as it was: look again later.
            self.alarms.later(kind, name, self.clock.now() + UNREACHABLE_RETRY)

    # --- Life ---------------------------------------------------------------------------------

    async def _hibernate_idle(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            before = self.clock.monotonic() - IDLE_SECONDS
            closed = 0
            for key, cell in list(self._cells.items()):
                if cell.last_event > before or not cell.idle:
                    continue
                if not cell.hibernating:
                    await cell.hibernate()
                    closed += 1
                # Out of the table only when nothing of it is left: until then events and clients
                # find it here, and an event that came meanwhile has built the instance again.
                if cell.released and self._cells.get(key) is cell:
                    del self._cells[key]
            if closed:
                await asyncio.get_running_loop().run_in_executor(self.executor, give_back_memory)

    async def close(self) -> None:
        """Close every socket with 1012, let handlers finish, close every database."""
        for task in self._housekeeping:
            task.cancel()
        await asyncio.gather(*self._housekeeping, return_exceptions=True)
        # What objects have told each other is delivered first; what that leads to is not waited
        # for, and comes up again at the next start.
        await asyncio.gather(*list(self._told), return_exceptions=True)
        self.closing = True
        for cell in list(self._cells.values()):
            for connection in cell.connected():
                connection.close(CLOSE_RESTART, "the server is restarting")
        await asyncio.gather(*(cell.close() for cell in list(self._cells.values())))
        told = list(self._told)
        for task in told:
            task.cancel()
        await asyncio.gather(*told, return_exceptions=True)
        self._cells.clear()
        self.alarms.close()
        self.executor.shutdown()
        if self._lock is not None:
            os.close(self._lock)


def _lock(root: Path) -> int:
    """Take the data directory for this process; the kernel gives it back when the process ends.

    Raises Conflict when another has it, StorageError where files cannot be locked.
    """
    make_folder(root)
    # One at a time tries, and writes down that it got it: whoever is refused reads the pid of the
    # owner, not of one before it.
    turnstile = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        return _locked(root)
    except OSError as error:
        raise StorageError(
            f"The data directory {root} cannot be locked ({error.strerror}). "
            "Choose a --data-dir on a disk of this machine.",
            retryable=False,
        ) from error
    finally:
        os.close(turnstile)


def _locked(root: Path) -> int:
    descriptor = os.open(root / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise Conflict(
            f"Another prep-server (process {pid or 'unknown'}) already serves {root}. "
            "Stop it first, or choose another --data-dir.",
            code=ErrorCode.DATA_DIR_IN_USE,
        ) from error
    except OSError:
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):  # a full disk: then nobody can be told who owns it
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
