"""Reading of TOML files that people write."""

import stat
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["read_toml"]


def read_toml(file: Path, name: str, max_bytes: int) -> dict[str, Any]:
    """Return the content of a TOML file of at most `max_bytes` bytes, in UTF-8 with or without a
    byte-order mark.

    Raises ValueError with a sentence that calls the file `name` and says what to do.
    """
    subject = f"{name} {file}"
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe could block
            raise ValueError(f"Cannot use {subject}: it is not a file. Choose a TOML file.")
        with file.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(
            f"Cannot read {subject}: {error.strerror}. Check the path and the file's permissions."
        ) from error
    if len(content) > max_bytes:
        size = f"{max_bytes / (1024 * 1024):g} MB"
        raise ValueError(f"{_begin(subject)} is larger than {size}. Choose another file.")
    if b"\0" in content:
        raise ValueError(f"{_begin(subject)} is UTF-16 or binary. Save it as UTF-8.")
    try:
        # Some editors begin the file with a byte-order mark.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{_begin(subject)} is not UTF-8. Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{_begin(subject)} is not valid TOML: {reason}. Fix the file.") from error


def _begin(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
