"""Recognition of a local server by its process id, and termination of one that does not end."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

__all__ = ["is_server", "stop_stale_server"]

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
    if not is_server(pid, marker):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while is_server(pid, marker):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    return True


def is_server(pid: int, marker: str) -> bool:
    """Return True if the process is running and its command line contains `marker`."""
    return pid > 1 and marker in _command_line(pid)


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
