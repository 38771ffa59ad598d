"""File operations that survive a power loss, and file locks between processes.

Every function of this module can block the calling thread.
"""

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = [
    "create_folder",
    "hold_lock",
    "lock_file",
    "replace_file",
    "sync_file",
    "sync_folder",
    "write_atomically",
]

_creating = threading.Lock()


def sync_file(file: IO[bytes]) -> None:
    """Make the content of an open file durable. Raises OSError if the disk fails."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming and removal of files in `folder` durable.

    Raises OSError if the disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_folder(folder: Path) -> None:
    """Create `folder` and its missing parents durably. Raises OSError if the disk fails.

    SQLite syncs the folder that holds a database, not the folders above it.
    """
    # The lock keeps a second thread from using a folder whose name is not durable yet.
    with _creating:
        missing = [one for one in (folder, *folder.parents) if not one.is_dir()]
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            sync_folder(one.parent)


def replace_file(temporary: Path, path: Path) -> None:
    """Move the synced file `temporary` to `path` durably.

    A reader of `path` sees the old file or the new one. Both paths must be on the same file
    system. Raises OSError if the move fails.
    """
    temporary.replace(path)
    sync_folder(path.parent)


def write_atomically(
    path: Path,
    content: bytes | Iterable[bytes],
    *,
    mode: int = 0o666,
    durable: bool = True,
    overwrite: bool = True,
) -> None:
    """Write a file atomically: a crash of the process leaves the old or the new content.

    If `durable` is true, the same is true after a power loss; otherwise a power loss may lose the
    file or truncate it. If `overwrite` is false, an existing file is left unchanged, even one that
    another process creates during the write. `mode` gives the permissions of the new file before
    the umask is applied. If the write fails, the temporary file, `.NAME.RANDOM.new` in the same
    folder, is removed and OSError is raised.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines((content,) if isinstance(content, bytes) else content)
            if durable:
                sync_file(file)
        if overwrite:
            temporary.replace(path)
        else:
            with suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        if durable:
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def lock_file(path: Path, *, blocking: bool = True, mode: int = 0o666) -> int:
    """Lock a file or folder exclusively against other processes. Return its file descriptor.

    A missing file is created with the permissions `mode`. The lock is released when the descriptor
    is closed, at the latest when the process ends. Never remove the file: a process that is waiting
    for the lock would then lock a file that no other process can see. Raises BlockingIOError if
    another process is holding the lock and `blocking` is false, and OSError if the file cannot be
    opened or its file system does not support locks.
    """
    access = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, access | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on `path` during the `with` block.

    `on_wait` is called once if another process is holding the lock. Raises OSError if the file
    cannot be locked.
    """
    try:
        descriptor = lock_file(path, blocking=False)
    except BlockingIOError:
        on_wait()
        descriptor = lock_file(path)
    try:
        yield
    finally:
        os.close(descriptor)
