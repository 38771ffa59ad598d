"""Smoke test for the room benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_the_benchmark_of_rooms_runs_and_reports_its_figures(tmp_path: Path) -> None:
    """The room benchmark reports 13 figures; each CPU time has a peer, a ratio and a target."""
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.bench", "rooms", "--quick", "--json", str(results)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads(results.read_text())["rows"]
    assert len(rows) == 13
    for row in rows:
        assert row["name"] in printed
        assert row["prep"] > 0 or "database files" in row["name"]
    compared = [row for row in rows if "CPU" in row["name"]]
    assert [row["target"] for row in compared] == [1.5, 1.5]
    assert all(row["peer"] > 0 and row["ratio"] > 0 for row in compared)
