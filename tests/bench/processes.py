"""What a process costs, as the kernel counts it, and on which core it runs."""

import os
import time
from pathlib import Path

__all__ = ["cores", "cpu_seconds", "files", "pin", "resident"]


def cores() -> tuple[int, int]:
    """One for the servers and another for whoever drives them; the same where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def pin(pid: int, core: int) -> None:
    """All threads of a process; those that it starts later follow."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user and in kernel, since it began; in nanoseconds' steps.

    The clock of another process, as clock_getcpuclockid(3) makes it.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files(pid: int) -> list[str]:
    """What its descriptors point at, sockets and all."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    return found
