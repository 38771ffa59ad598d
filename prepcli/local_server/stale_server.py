"""Termination of a local server that outlived its `prep`, found by its PID file."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

__all__ = ["stop_stale_server"]

STOP_SECONDS = 10.0
"""Maximum number of seconds between SIGTERM and SIGKILL."""


def stop_stale_server(pid_file: Path, marker: str) -> bool:
    """Stop the process named by the PID file if its command line contains `marker`.

    The marker tells the server from an unrelated process that has been given the same id. Return
    True if the server was running. The caller ensures that no other `prep` is using the server.
    """
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return False
    if pid <= 1 or marker not in _command_line(pid):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while marker in _command_line(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.05)
    return True


def _command_line(pid: int) -> str:
    """Return a process's arguments separated by spaces, or an empty string if they cannot be
    read."""
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
