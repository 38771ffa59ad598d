import os
import stat
from pathlib import Path

import pytest

from prepcli.files import write_atomically


def test_content_is_replaced_and_no_temporary_file_remains(tmp_path: Path) -> None:
    """An atomic write creates a missing folder, replaces the old content and leaves no temporary
    file."""
    file = tmp_path / "new" / "file"
    for data in (b"old", b"new"):
        write_atomically(file, data)
        assert file.read_bytes() == data
    assert list(file.parent.iterdir()) == [file]


def test_mode_applies_to_the_new_file(tmp_path: Path) -> None:
    """A replaced file has the requested mode, even if the old file had wider permissions."""
    file = tmp_path / "file"
    file.touch(mode=0o644)
    write_atomically(file, b"x", mode=0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed write raises OSError, keeps the old content and leaves no temporary file."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "file"
    file.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_link_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link at the temporary file's name is removed, and the target of the link is
    unchanged."""
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (tmp_path / f"file.{os.getpid()}").symlink_to(target)
    write_atomically(tmp_path / "file", b"new")
    assert target.read_bytes() == b"untouched"
    assert not (tmp_path / "file").is_symlink()
