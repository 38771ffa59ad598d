"""Operations on large model files: hashing, copying, checking disk space, reporting errors."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Literal

from msgspec import Struct

from prepserver.errors import ModelError
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "Progress",
    "ProgressCallback",
    "Stage",
    "clear_folder",
    "copy_and_hash",
    "disk_errors",
    "file_sizes",
    "hash_file",
    "ignore_progress",
    "require_space",
]

_CHUNK_BYTES = 1 << 20
_SPARE_BYTES = 32 << 20

Stage = Literal["waiting", "downloading", "verifying", "converting", "copying"]
"""Stage of the work on a model. In the stage `waiting`, another process is working on the same
model."""


class Progress(Struct, frozen=True):
    """Progress within one stage of the work on a model."""

    model: str
    stage: Stage
    done: int
    """Number of bytes processed in the stage, including those of an earlier partial download;
    during a conversion, number of tensors written."""
    total: int
    """Value of `done` at the end of the stage; 0 if the value is unknown."""


ProgressCallback = Callable[[Progress], None]
"""Function that is called often with the current progress, in the thread that does the work."""

BytesCallback = Callable[[int], None]
"""Function that is called with the number of bytes processed so far."""


def ignore_progress(_: Progress) -> None:
    """Do nothing. This function is the default `ProgressCallback`."""


def hash_file(path: Path, on_bytes: BytesCallback = lambda done: None) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    sha256 = hashlib.sha256()
    done = 0
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            sha256.update(chunk)
            done += len(chunk)
            on_bytes(done)
    return sha256.hexdigest()


def copy_and_hash(
    source: IO[bytes], target: Path, on_bytes: BytesCallback = lambda done: None
) -> str:
    """Copy `source` to the file `target` and sync the file. Return its SHA-256 in hexadecimal."""
    sha256 = hashlib.sha256()
    done = 0
    with target.open("wb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            out.write(chunk)
            sha256.update(chunk)
            done += len(chunk)
            on_bytes(done)
        sync_file(out)
    return sha256.hexdigest()


def clear_folder(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove everything in `folder` except the files whose names are in `keep`.

    Errors during the removal of a subfolder are ignored.
    """
    for path in folder.iterdir():
        if path.is_dir():
            # A pip process whose parent was killed may still write here; it cannot be awaited.
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in keep:
            path.unlink(missing_ok=True)


def file_sizes(folder: Path) -> Iterator[int]:
    """Yield the size in bytes of each file under `folder`; files that vanish meanwhile are left
    out."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield (Path(parent) / name).stat().st_size


def require_space(folder: Path, needed: int) -> None:
    """Raise ModelError unless the disk that holds `folder` has `needed` bytes plus 32 MiB free."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        total = (needed + _SPARE_BYTES) / 1e6
        raise _no_space(folder, f"{total:.0f} MB are needed, but only {free / 1e6:.0f} MB are free")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Convert an OSError in the `with` block into a ModelError that names the file or `folder`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _no_space(folder, reason) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise ModelError(
                f"Cannot use {error.filename or folder}: {reason}. Change its permissions, or "
                "choose another folder for models with --models-dir or PREP_MODELS_DIR.",
                code=ErrorCode.MODEL_FOLDER,
            ) from error
        raise ModelError(
            f"Disk error at {error.filename or folder}: {reason}. Installed models are unchanged; "
            "try again.",
            code=ErrorCode.MODEL_DISK,
            retryable=True,
        ) from error


def _no_space(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"Not enough disk space for the model in {folder}: {why}. Free some space, or choose "
        "another folder with --models-dir or PREP_MODELS_DIR, and try again.",
        code=ErrorCode.NO_SPACE,
        details={"folder": str(folder)},
    )
