"""An engine uses what the machine has, and no more than it may."""

import os
from pathlib import Path

import pytest

from prepserver.engines.hardware import usable_cores, usable_memory


def machine(root: Path, siblings: dict[int, str], quota: str = "") -> Path:
    """What a system says of its processors, as files."""
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


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    """They share what a model computes with."""
    assert usable_cores(machine(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})) == 2


def test_a_system_that_does_not_say_has_a_core_for_each_processor(tmp_path: Path) -> None:
    """Without topology nothing is left out."""
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
def test_the_limit_of_a_container_counts(tmp_path: Path, quota: str, expected: int) -> None:
    """More threads than processors only wait for each other."""
    separate = {number: str(number) for number in range(4)}
    assert usable_cores(machine(tmp_path, separate, quota)) == expected


def test_there_is_memory() -> None:
    """More than none, and a whole number of bytes."""
    assert usable_memory() > 64 * 1024**2
