"""State of the attempts to fetch a model, as other processes see it on the disk."""

import contextlib
import os
from pathlib import Path

from prepserver.models import files
from prepserver.models.store import ModelStore
from prepserver.storage.files import lock_file

__all__ = ["is_locked", "read_problem", "save_problem", "unfinished_bytes"]


def is_locked(store: ModelStore, model: str) -> bool:
    """Return True if a process is fetching or importing the model."""
    path = store.work_root / f"{model}.lock"
    if not path.exists():
        return False
    try:
        os.close(lock_file(path, blocking=False))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def unfinished_bytes(store: ModelStore, model: str) -> int:
    """Return the size of the model's incomplete files in bytes."""
    return sum(files.file_sizes(store.work_root / model))


def read_problem(store: ModelStore, model: str) -> str:
    """Return the reason why the last attempt to fetch the model failed; empty if none has."""
    try:
        return _problem_path(store, model).read_text("utf-8", "replace")
    except OSError:
        return ""


def save_problem(store: ModelStore, model: str, problem: str) -> None:
    """Store the reason why an attempt has failed; an empty reason deletes the last one. A disk
    error is ignored."""
    path = _problem_path(store, model)
    with contextlib.suppress(OSError):
        if problem:
            path.write_text(problem, "utf-8")
        else:
            path.unlink(missing_ok=True)


def _problem_path(store: ModelStore, model: str) -> Path:
    return store.work_root / f"{model}.problem"
