"""The benchmark of rooms, in its quick form: that it runs, not what it finds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_the_benchmark_of_rooms_runs_and_says_what_it_measured(tmp_path: Path) -> None:
    """Every figure of both servers is there, with the ratio and the target it is held to."""
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.bench", "rooms", "--quick", "--json", str(found)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads(found.read_text())["rows"]
    assert len(rows) == 13
    for row in rows:
        assert row["name"] in printed
        assert row["ours"] > 0 or "database files" in row["name"]
    beside = [row for row in rows if "CPU" in row["name"]]
    assert [row["target"] for row in beside] == [1.5, 1.5]
    assert all(row["peer"] > 0 and row["ratio"] > 0 for row in beside)
