"""Large files on a disk that may fill up, under a power supply that may go away."""

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from prepserver.models.errors import ModelError
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "clear",
    "copy",
    "digest",
    "disk_errors",
    "require_space",
]

_CHUNK_BYTES = 1 << 20
_SPARE_BYTES = 32 << 20

Step = Callable[[int], None]
"""Told the bytes done so far."""


def digest(path: Path, step: Step = lambda done: None) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    sha256 = hashlib.sha256()
    done = 0
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            sha256.update(chunk)
            done += len(chunk)
            step(done)
    return sha256.hexdigest()


def copy(source: IO[bytes], target: Path, step: Step = lambda done: None) -> str:
    """Write all of `source` to a new file, down to the disk; the SHA-256 of what was written."""
    sha256 = hashlib.sha256()
    done = 0
    with target.open("wb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            out.write(chunk)
            sha256.update(chunk)
            done += len(chunk)
            step(done)
        sync_file(out)
    return sha256.hexdigest()


def clear(folder: Path, keep: str = "") -> None:
    """Remove what is in `folder`, but for the file called `keep`."""
    for path in folder.iterdir():
        if path.is_dir():
            # A pip whose parent was killed may still be writing there; it cannot be waited for.
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != keep:
            path.unlink(missing_ok=True)


def require_space(folder: Path, needed: int) -> None:
    """Raise ModelError unless `folder` has room for `needed` bytes and a little more."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise _no_space(folder, f"{needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk under `folder` refuses into a ModelError that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _no_space(folder, reason) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise ModelError(
                f"{error.filename or folder} cannot be used: {reason}. Change its permissions, or "
                "choose another folder for models with --models-dir or PREP_MODELS_DIR.",
                code=ErrorCode.MODEL_FOLDER,
            ) from error
        raise ModelError(
            f"The disk failed at {error.filename or folder}: {reason}. Nothing that was installed "
            "has changed; try again.",
            code=ErrorCode.MODEL_DISK,
            retryable=True,
        ) from error


def _no_space(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"There is no room for the model in {folder}: {why}. Make room, or choose another folder "
        "with --models-dir or PREP_MODELS_DIR, and pull again.",
        code=ErrorCode.NO_SPACE,
        details={"folder": str(folder)},
    )
