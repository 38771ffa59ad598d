"""Servers whose prep was killed before it could stop them: found by a file, ended by the next."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

__all__ = ["stop_stale_server"]

STOP_SECONDS = 10.0
"""For it to end when asked; then it is killed."""


def stop_stale_server(pid_file: Path, mark: str) -> bool:
    """End the process that the file names, if its command line has `mark` in it.

    A process id is given to somebody else after its process has ended; the mark tells them apart.
    Whether there was one. The caller makes sure that nobody uses it any more.
    """
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return False
    if pid <= 1 or mark not in _command_line(pid):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while mark in _command_line(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.05)
    return True


def _command_line(pid: int) -> str:
    """The arguments of a process, separated by blanks; empty when there is no such process."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            return ""
    command = ["ps", "-o", "args=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
