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
    """Stop the process named by the PID file if `marker` is one of its arguments.

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
    """Return True if the process is running and `marker` is one of its arguments."""
    return pid > 1 and _has_argument(pid, marker)


def _has_argument(pid: int, argument: str) -> bool:
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return os.fsencode(argument) in (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
    # Outside Linux, only the arguments joined by spaces are known.
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return b" %b " % os.fsencode(argument) in b" %b " % done.stdout.strip()
