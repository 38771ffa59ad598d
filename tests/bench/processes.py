"""CPU time, memory, open files and core affinity of processes, as reported by Linux."""

import os
import time
from pathlib import Path

__all__ = ["benchmark_cores", "cpu_seconds", "open_files", "pin_to_core", "resident_bytes"]


def benchmark_cores() -> tuple[int, int]:
    """Return the server's core and the clients' core: the first and the last available core."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def pin_to_core(pid: int, core: int) -> None:
    """Pin the current and future threads of a process to a core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU time that all threads of a process have used since its start.

    The time includes user and kernel mode, with a resolution of one nanosecond. The clock id is
    computed as in clock_getcpuclockid(3).
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> list[str]:
    """Return the targets of all open file descriptors of a process, including sockets."""
    targets = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # closed in the meantime
    return targets
