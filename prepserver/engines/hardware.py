"""Detection of the processor cores and memory that this process may use."""

import os
from pathlib import Path

__all__ = ["usable_cores", "usable_memory"]


def usable_cores(root: Path = Path("/sys")) -> int:
    """Return the number of processor cores that this process may use, at least 1.

    Hyper-threads of one core share its arithmetic units, so each core counts once if the system
    reports its topology. A control group's CPU quota can lower the number. `root` is the mount
    point of sysfs.
    """
    cpus = _available_cpus()
    sibling_groups = set()
    for cpu in cpus:
        topology = root / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        sibling_groups.add(_read(topology) or str(cpu))
    quota = _parse_quota(_read(root / "fs/cgroup/cpu.max"))
    return max(1, min(len(sibling_groups), quota or len(sibling_groups)))


def usable_memory() -> int:
    """Return the physical memory or the control group's memory limit, whichever is lower, in
    bytes."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(Path("/sys/fs/cgroup/memory.max"))
    return min(physical, int(limit)) if limit.isdecimal() else physical


def _available_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _parse_quota(text: str) -> int:
    """Return the number of processors that a quota such as `150000 100000` grants, rounded to a
    whole number of at least 1. Text that states no quota gives 0."""
    quota, _, period = text.partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return 0
    return max(1, round(int(quota) / int(period)))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
