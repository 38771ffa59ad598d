"""Smoke tests for the model benchmarks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.models import LANGUAGE_MODEL

# Up to three minutes each on two busy cores.
pytestmark = [pytest.mark.models, pytest.mark.time_limit(600)]


@pytest.mark.parametrize(
    ("name", "targets"),
    [("language", 6), ("standard", 4), ("spoken", 1), ("speech", 4), ("memory", 3)],
)
def test_a_benchmark_runs_and_reports_its_figures(name: str, targets: int, tmp_path: Path) -> None:
    """Every figure of a benchmark has a peer, and the expected number of figures has a target."""
    results = tmp_path / "results.json"
    # The standard model is not installed everywhere.
    environment = {**os.environ, "PREP_BENCH_STANDARD": str(LANGUAGE_MODEL)}
    command = [sys.executable, "-m", "tests.bench", name, "--quick", "--json", str(results)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rows = json.loads(results.read_text())["rows"]
    assert sum(row["target"] is not None for row in rows) == targets
    for row in rows:
        assert row["name"] in done.stdout
        assert row["benchmark"] == name
        if row["unit"] == "%":  # an error rate may be zero
            assert 0 <= row["prep"] < 20
            assert 0 <= row["peer"] < 20
        else:
            assert row["prep"] > 0
            assert row["peer"] > 0
        assert (row["ratio"] is None) != (row["difference"] is None)
