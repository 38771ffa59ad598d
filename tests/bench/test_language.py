"""Smoke tests for the model benchmarks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Under a minute on two idle cores.
pytestmark = [pytest.mark.models, pytest.mark.time_limit(600)]


@pytest.mark.parametrize(
    ("name", "targets"), [("language", 6), ("spoken", 1), ("speech", 4), ("memory", 3)]
)
def test_a_benchmark_runs_and_reports_its_figures(name: str, targets: int, tmp_path: Path) -> None:
    """Every figure of a benchmark has a peer, and the expected number of figures has a target."""
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.bench", name, "--quick", "--json", str(results)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads(results.read_text())["rows"]
    assert sum(row["target"] is not None for row in rows) == targets
    for row in rows:
        assert row["name"] in printed
        assert row["benchmark"] == name
        if row["unit"] == "%":  # an error rate may be zero
            assert 0 <= row["prep"] < 20
            assert 0 <= row["peer"] < 20
        else:
            assert row["prep"] > 0
            assert row["peer"] > 0
        assert (row["ratio"] is None) != (row["difference"] is None)
