"""Detection of the cores and the memory that an engine may use."""

import os
from pathlib import Path

import pytest

from prepserver.engines.hardware import usable_cores, usable_memory


def fake_sysfs(root: Path, siblings: dict[int, str], quota: str = "") -> Path:
    """Write fake Linux files with the processor topology and the CPU quota below `root`, and return
    `root`."""
    for number, text in siblings.items():
        topology = root / f"devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{text}\n")
    if quota:
        (root / "fs/cgroup").mkdir(parents=True)
        (root / "fs/cgroup/cpu.max").write_text(f"{quota}\n")
    return root


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


def test_hyper_threads_of_a_core_count_once(tmp_path: Path) -> None:
    """Four logical processors on two physical cores count as two cores."""
    assert usable_cores(fake_sysfs(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})) == 2


def test_without_topology_each_processor_is_a_core(tmp_path: Path) -> None:
    """A system that reports no topology has as many cores as processors."""
    assert usable_cores(tmp_path) == 4


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("max 100000", 4),
        ("", 4),
        ("junk", 4),
        ("9 0", 4),
    ],
)
def test_a_cpu_quota_limits_the_cores(tmp_path: Path, quota: str, expected: int) -> None:
    """A control group's CPU quota, rounded to a whole number of at least 1, limits the number of
    usable cores; an invalid quota is ignored."""
    separate = {number: str(number) for number in range(4)}
    assert usable_cores(fake_sysfs(tmp_path, separate, quota)) == expected


def test_memory_is_detected() -> None:
    """The detected usable memory is more than 64 MiB."""
    assert usable_memory() > 64 * 1024**2
