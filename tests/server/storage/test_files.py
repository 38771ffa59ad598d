"""Atomic writes, durable folders, and locks between processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from prepserver.storage.files import create_folder, hold_lock, lock_file, write_atomically


def test_a_write_replaces_the_file(tmp_path: Path) -> None:
    """A write replaces the whole content, sets the given mode and leaves no temporary file."""
    path = tmp_path / "key"
    write_atomically(path, b"old", mode=0o600)
    write_atomically(path, (b"n", b"ew"), mode=0o600, durable=False)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the sync of the new content fails, the old content stays and the temporary file is
    removed."""
    path = tmp_path / "key"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk failure")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk failure"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_overwrite_an_existing_file_stays(tmp_path: Path) -> None:
    """A write with `overwrite=False` changes nothing if the file exists."""
    path = tmp_path / "key"
    write_atomically(path, b"first", overwrite=False)
    write_atomically(path, b"second", overwrite=False)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_created_with_its_parents(tmp_path: Path) -> None:
    """`create_folder` creates missing parents and accepts an existing folder."""
    create_folder(tmp_path / "a" / "b" / "c")
    create_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


@pytest.mark.parametrize("name", ["lock", "."], ids=["file", "folder"])
def test_a_lock_excludes_other_holders(tmp_path: Path, name: str) -> None:
    """Locking a locked path without blocking raises BlockingIOError until the descriptor of the
    first lock is closed."""
    path = tmp_path / name
    descriptor = lock_file(path)
    with pytest.raises(BlockingIOError):
        lock_file(path, blocking=False)
    os.close(descriptor)
    os.close(lock_file(path, blocking=False))


def test_a_waiting_process_gets_the_lock_of_a_dead_one(tmp_path: Path) -> None:
    """`hold_lock` calls `on_wait` once while another process holds the lock, and acquires the lock
    when that process ends."""
    path = tmp_path / "lock"
    hold = (
        "import sys\n"
        "from pathlib import Path\n"
        "from prepserver.storage.files import lock_file\n"
        "lock_file(Path(sys.argv[1]))\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    waited: list[int] = []

    def on_wait() -> None:
        waited.append(1)
        holder.kill()

    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with hold_lock(path, on_wait):
            assert waited == [1]
