"""Registry of the objects in memory, with at most one instance for each (kind, name)."""

import asyncio
import ctypes
import hashlib
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw
import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import Conflict, PrepServerError, StorageError
from prepserver.objects.alarms import AlarmIndex, read_boot_id
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance, Kind, server_stopping
from prepserver.objects.storage import Storage, read_stored_alarm
from prepserver.objects.stubs import ObjectCall
from prepserver.storage.files import create_folder, hold_lock, lock_file
from prepserver.storage.sqlite import cannot_open
from prepserver.wire.codec import encode
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import CLOSE_RESTART, ServerMessage

__all__ = ["Registry", "RegistryCounts", "open_stored_object"]

IDLE_SECONDS = 10.0
"""Seconds without events after which an idle object hibernates."""
ALARM_POLL = 0.25
"""Seconds between checks for due alarms. An alarm fires within 1 s of becoming due, even if the
clock is set to another time."""
UNREACHABLE_RETRY = 5.0
"""Seconds before an alarm is fired again after its object could not be reached, and before object
files that could not be read are read again."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class RegistryCounts(Struct, frozen=True, kw_only=True):
    live: int
    """Number of objects in memory that are not hibernating."""
    hibernating: int
    """Number of objects in memory that are idle and whose database is closed."""
    connections: int


class Registry:
    """Owner of a data directory and of every object in the directory."""

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
        """Configure the registry. The disk is not touched before `start`.

        `vfs` names the VFS that SQLite uses; None means the default. `executor` runs work that
        blocks on the disk, and is shut down with the registry; None means a new pool of threads.
        `boot` identifies the current boot of the machine; None means the id from the system.
        """
        self.root = root
        self.vfs = vfs
        self.clock = clock
        self.executor = executor or ThreadPoolExecutor(max_workers=8, thread_name_prefix="objects")
        self.alarms: AlarmIndex
        self._kinds = {kind.name: kind for kind in kinds}
        self._instances: dict[tuple[str, str], Instance] = {}
        self._detached: set[asyncio.Task[None]] = set()
        self._housekeeping: list[asyncio.Task[None]] = []
        self._unread: list[tuple[str, Path]] = []
        """Kind and file of each object whose alarm could not be read into the index."""
        self._lock: int | None = None
        self._boot = read_boot_id() if boot is None else boot
        self.closing = False

    async def start(self) -> None:
        """Lock the data directory, open the alarm index, and start the background tasks.

        The background tasks fire alarms and hibernate idle objects. Raises Conflict if another
        process is using the data directory, and StorageError if the disk fails.
        """
        self._lock = await asyncio.to_thread(_lock_data_dir, self.root)
        try:
            self.alarms = await asyncio.to_thread(self._open_index)
        except BaseException:
            os.close(self._lock)
            raise
        self._housekeeping = [
            asyncio.create_task(self._watch_alarms()),
            asyncio.create_task(self._hibernate_idle()),
            asyncio.create_task(self._read_missing_alarms()),
        ]

    # --- Addressing ---------------------------------------------------------------------------

    @property
    def counts(self) -> RegistryCounts:
        """Numbers of objects and connections in memory."""
        instances = list(self._instances.values())
        hibernating = sum(instance.hibernating for instance in instances)
        return RegistryCounts(
            live=len(instances) - hibernating,
            hibernating=hibernating,
            connections=sum(len(instance.connections) for instance in instances),
        )

    def instance(self, kind: str, name: str) -> Instance:
        """Return the object's instance, which is created if necessary.

        Raises PrepServerError if the server is stopping.
        """
        if self.closing:
            raise server_stopping()
        key = (kind, name)
        if key not in self._instances:
            self._instances[key] = Instance(
                self._kinds[kind], name, self._path(kind, name), self, self._drop
            )
        return self._instances[key]

    async def call(self, call: ObjectCall[T]) -> T:
        """Call an object's method. Return the result once the method's effects are durable.

        Raises PrepServerError if the method fails or the server is stopping.
        """
        target = self.instance(call.kind, call.name)
        result: T = await target.call(call.method, call.arguments)
        return result

    def connect(self, kind: str, name: str, connection: Connection) -> Instance:
        """Add a connection to an object's room. Return the object's instance.

        Raises PrepServerError if the server is stopping.
        """
        instance = self.instance(kind, name)
        instance.connect(connection)
        return instance

    def broadcast(self, kind: str, message: ServerMessage) -> None:
        """Send a message to every connection of all objects of a kind, without waking an object.

        The message is not ordered with those of the objects. A client that connects later does not
        receive it.
        """
        encoded = encode(message)
        for instance in list(self._instances.values()):
            if instance.kind.name == kind:
                for connection in instance.connections:
                    connection.push(encoded)

    async def wait_for_handlers(self) -> None:
        """Wait until no handler of any object is running or queued."""
        while busy := [each for each in self._instances.values() if each.busy]:
            await asyncio.gather(*(each.wait_for_handlers() for each in busy))

    def _drop(self, instance: Instance) -> None:
        key = (instance.kind.name, instance.name)
        if self._instances.get(key) is instance:
            del self._instances[key]

    def _path(self, kind: str, name: str) -> Path:
        return _object_path(self.root, kind, name)

    # --- Work for objects (Runtime) -----------------------------------------------------------

    def tell(self, call: ObjectCall[Any], on_done: Callable[[], None]) -> None:
        def on_error(error: PrepServerError) -> None:
            log.warning("object.tell_failed", kind=call.kind, method=call.method, code=error.code)

        async def wait(result: asyncio.Future[Any]) -> None:
            try:
                await result
                on_done()
            except PrepServerError as error:
                on_error(error)

        # The call enters the mailbox now, so that it stays ahead of later calls.
        try:
            result = self.instance(call.kind, call.name).call(call.method, call.arguments)
        except PrepServerError as error:
            on_error(error)
        else:
            self.detach(wait(result))

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("object.work_failed")

        task = asyncio.create_task(run())
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)

    # --- Alarms -------------------------------------------------------------------------------

    def _open_index(self) -> AlarmIndex:
        path = self.root / "alarms.sqlite"
        try:
            index = AlarmIndex(path, boot=self._boot, vfs=self.vfs)
            if not index.complete:
                alarms = [*self._read_alarms(self._object_files())]
                index.rebuild(alarms, complete=not self._unread)
        except (apsw.Error, OSError) as error:
            raise cannot_open(path, error) from error
        return index

    def _object_files(self) -> Iterator[tuple[str, Path]]:
        for kind in self._kinds:
            for path in (self.root / "objects" / kind).glob("*/*.sqlite"):
                yield kind, path

    def _read_alarms(self, files: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, str, float]]:
        """Yield the alarms in object files, and add the files that cannot be read to `_unread`."""
        for kind, path in files:
            try:
                stored = read_stored_alarm(path, vfs=self.vfs)
            except StorageError as error:
                self._unread.append((kind, path))
                log.error("alarm.not_read", file=path.name, error=str(error))
                continue
            if stored is not None:
                name, alarm = stored
                if alarm is not None:
                    yield kind, name, alarm.due

    async def _read_missing_alarms(self) -> None:
        """Read the files in `_unread` again until the index holds the alarms of all objects."""

        def read() -> None:
            unread, self._unread = self._unread, []
            found = [*self._read_alarms(one for one in unread if one[1].exists())]
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
            for kind, name in self.alarms.pop_due_alarms(self.clock.now()):
                if kind not in self._kinds:
                    log.error("alarm.unknown_kind", kind=kind)
                    continue
                self.detach(self._fire_alarm(kind, name))
            await self.clock.sleep(ALARM_POLL)

    async def _fire_alarm(self, kind: str, name: str) -> None:
        try:
            await self.instance(kind, name).fire_alarm()
        except PrepServerError as error:
            if error.code in (ErrorCode.DELETED, ErrorCode.STOPPING):
                return
            log.error("alarm.not_delivered", kind=kind, code=error.code)
            # The object could not be reached, so its own alarm is unchanged: try again later.
            self.alarms.postpone(kind, name, self.clock.now() + UNREACHABLE_RETRY)

    # --- Hibernation and shutdown -------------------------------------------------------------

    async def _hibernate_idle(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            before = self.clock.monotonic() - IDLE_SECONDS
            closed = 0
            for key, instance in list(self._instances.items()):
                if instance.last_event > before or not instance.idle:
                    continue
                if not instance.hibernating:
                    await instance.hibernate()
                    closed += 1
                # Dropped only once it is removable: until then events and clients find it here,
                # and an event that arrived meanwhile has woken it again.
                if instance.removable and self._instances.get(key) is instance:
                    del self._instances[key]
            if closed:
                await asyncio.get_running_loop().run_in_executor(self.executor, trim_heap)

    async def close(self) -> None:
        """Close every connection with code 1012, let handlers finish, and close every database."""
        for task in self._housekeeping:
            task.cancel()
        await asyncio.gather(*self._housekeeping, return_exceptions=True)
        # Deliver the pending calls between objects first. Do not wait for further calls that they
        # cause: the objects repeat those after the next start.
        await asyncio.gather(*list(self._detached), return_exceptions=True)
        self.closing = True
        for instance in list(self._instances.values()):
            for connection in instance.connections:
                connection.close(CLOSE_RESTART, "the server is restarting")
        await asyncio.gather(*(instance.close() for instance in list(self._instances.values())))
        detached = list(self._detached)
        for task in detached:
            task.cancel()
        await asyncio.gather(*detached, return_exceptions=True)
        self._instances.clear()
        self.alarms.close()
        self.executor.shutdown()
        if self._lock is not None:
            os.close(self._lock)


def trim_heap() -> None:
    """Return free heap memory to the system if the C library is glibc.

    SQLite's page caches consist of many small blocks. After a hundred databases are closed, glibc
    would otherwise keep nearly all the memory of the caches.
    """
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)


@contextmanager
def open_stored_object(
    root: Path, kind: str, name: str, migrations: Sequence[str]
) -> Iterator[Storage]:
    """Open an object's database in a data directory that no server is using. The object itself is
    not created, so no turn is resumed and no alarm fires.

    The data directory is locked during the `with` block, which blocks on the disk. Raises Conflict
    if another process is using the directory, and StorageError if the disk fails.
    """
    lock = _lock_data_dir(root)
    try:
        storage = Storage(_object_path(root, kind, name), name, migrations)
        try:
            yield storage
        finally:
            storage.rollback()
            storage.close()
    finally:
        os.close(lock)


def _object_path(root: Path, kind: str, name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return root / "objects" / kind / digest[:2] / f"{digest}.sqlite"


def _lock_data_dir(root: Path) -> int:
    """Lock the data directory for this process. Return the descriptor that holds the lock.

    Raises Conflict if another process is holding the lock, and StorageError if the file system
    cannot lock files.
    """
    try:
        create_folder(root)
    except OSError as error:
        raise StorageError(
            f"Cannot create the data directory {root}: {error.strerror}. Check the disk, or choose "
            "another directory with --data-dir."
        ) from error
    try:
        # One process at a time takes the lock and stores its pid, so that a refused process reads
        # the pid of the owner, not of an earlier one.
        with hold_lock(root):
            return _lock_and_store_pid(root)
    except OSError as error:
        raise StorageError(
            f"The data directory {root} cannot be locked: {error.strerror}. "
            "Choose a directory on a local disk with --data-dir.",
            retryable=False,
        ) from error


def _lock_and_store_pid(root: Path) -> int:
    path = root / "server.lock"
    try:
        descriptor = lock_file(path, blocking=False, mode=0o600)
    except BlockingIOError as error:
        pid = path.read_text(errors="replace").strip()
        raise Conflict(
            f"Another prep-server (process {pid or 'unknown'}) is using the data directory {root}. "
            "Stop that server first, or choose another directory with --data-dir.",
            code=ErrorCode.DATA_DIR_IN_USE,
        ) from error
    with suppress(OSError):  # on a full disk the pid stays unknown
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
