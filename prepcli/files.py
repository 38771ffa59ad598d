"""Atomic replacement of the client's own files."""

import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(file: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace a file's content atomically: even after a crash, readers see the old content or the
    new.

    Creates missing folders. The new file has the permissions `mode`, less the umask, from the
    moment it exists. Raises OSError if the file cannot be written; the old content then remains.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    # O_EXCL: do not follow a link that another user has placed there.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
