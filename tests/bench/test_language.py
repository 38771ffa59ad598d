"""The benchmarks of the models, in their quick form: that they run, not what they find."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Under a minute on two cores that have nothing else to do.
pytestmark = [pytest.mark.models, pytest.mark.time_limit(600)]


@pytest.mark.parametrize(
    ("name", "targets"), [("language", 6), ("spoken", 1), ("speech", 4), ("memory", 3)]
)
def test_a_benchmark_runs_and_says_what_it_measured(
    name: str, targets: int, tmp_path: Path
) -> None:
    """Every figure has a peer from the same run, and those with a target are held to it."""
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.bench", name, "--quick", "--json", str(found)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads(found.read_text())["rows"]
    assert sum(row["target"] is not None for row in rows) == targets
    for row in rows:
        assert row["name"] in printed
        assert row["benchmark"] == name
        if row["unit"] == "%":  # of what went wrong: it may be nothing
            assert 0 <= row["ours"] < 20
            assert 0 <= row["peer"] < 20
        else:
            assert row["ours"] > 0
            assert row["peer"] > 0
        assert (row["ratio"] is None) != (row["difference"] is None)
