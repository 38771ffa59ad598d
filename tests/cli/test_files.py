import os
import stat
from pathlib import Path

import pytest

from prepcli.files import write_atomically


def test_content_is_replaced_and_no_temporary_file_remains(tmp_path: Path) -> None:
    """The new content replaces the old one, in a folder that is created if it is missing."""
    file = tmp_path / "new" / "file"
    for data in (b"old", b"new"):
        write_atomically(file, data)
        assert file.read_bytes() == data
    assert list(file.parent.iterdir()) == [file]


def test_mode_applies_to_the_new_file(tmp_path: Path) -> None:
    """Replacing a file with wider permissions gives it the requested mode."""
    file = tmp_path / "file"
    file.touch(mode=0o644)
    write_atomically(file, b"x", mode=0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails raises OSError and leaves the old content and no temporary file."""

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
    """A symbolic link at the name of the temporary file is removed, and its target is untouched."""
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (tmp_path / f"file.{os.getpid()}").symlink_to(target)
    write_atomically(tmp_path / "file", b"new")
    assert target.read_bytes() == b"untouched"
    assert not (tmp_path / "file").is_symlink()
