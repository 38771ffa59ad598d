"""Failures of the local server, in words for the user of `prep`."""

import errno
import re
from pathlib import Path

from prepcli import paths
from prepcli.errors import LocalServerFailed

__all__ = ["cannot_use", "command_failure", "last_lines"]

_ERROR_LINE = re.compile(r"^prep-server: ", re.MULTILINE)
"""Beginning of the message with which `prep-server` ends."""

_OPTION = re.compile(r"--(data-dir|ready-file|lease-file)\b")
"""Options that `prep` itself passes to the server."""


def cannot_use(path: str | Path, error: OSError) -> LocalServerFailed:
    """Return the error for a file or folder of the local server that the system refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free space on the disk"
    else:
        advice = "Change its permissions"
    reason = error.strerror
    if error.errno == errno.EEXIST:
        reason = "it is a file or a link to a missing folder"
    return LocalServerFailed(
        f"Cannot use {path}: {reason}. {advice}, or set PREP_DATA_DIR to another directory."
    )


def command_failure(problem: str, output: str, code: int | None) -> LocalServerFailed:
    """Return the error for a `prep-server` command that has failed with this output.

    `problem` is a sentence without a full stop, used unless a package is missing.
    """
    # A missing module of prepserver itself is a broken installation: report its traceback.
    if re.search(r"No module named (?!'?prepserver\.)", output):
        return LocalServerFailed(
            "The local server needs packages that are not installed. Install them in a clone of "
            "prep, with pip install '.[server]', pipx install --force '.[server]' or "
            "uv tool install '.[server]'. Or name a server with --server URL."
        )
    *before, message = _ERROR_LINE.split(output.rstrip())
    if before:
        message = _OPTION.sub("PREP_DATA_DIR", message)
        directory = paths.local_server_dir()
        if "database" in message and str(directory) not in message:
            message += f" The database is in {directory}; PREP_DATA_DIR chooses another directory."
        return LocalServerFailed(f"{problem}. {message}")
    return LocalServerFailed(
        f"{problem} (exit code {code}). Last lines of its output:\n"
        f"{last_lines(output) or '  (none)'}"
    )


def last_lines(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])
