"""What this machine has to compute with."""

import os
from pathlib import Path

__all__ = ["cores", "memory"]


def cores(system: Path = Path("/sys")) -> int:
    """Processor cores that this process may use; at least 1.

    Two threads of one core share what a model computes with, so each core counts once where the
    system says which belong together. A limit of the control group counts too.
    """
    mine = _affinity()
    together = set()
    for number in mine:
        topology = system / f"devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        together.add(_read(topology) or str(number))
    limit = _quota(_read(system / "fs/cgroup/cpu.max"))
    return max(1, min(len(together), limit or len(together)))


def memory() -> int:
    """Bytes of the machine, or of this process's control group if that is less."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    limit = _read(Path("/sys/fs/cgroup/memory.max"))
    whole = pages * size
    return min(whole, int(limit)) if limit.isdecimal() else whole


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _quota(text: str) -> int:
    """Whole processors of a line like `150000 100000`; 0 without a limit."""
    quota, _, period = text.partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return 0
    return max(1, round(int(quota) / int(period)))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
