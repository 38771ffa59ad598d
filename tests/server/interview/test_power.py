"""The power is cut under whole interviews: what candidates were told is so afterwards."""

from pathlib import Path

import pytest

from tests.server.interview.candidates import Lives
from tests.support.histories import endure
from tests.support.loop import asynchronous


@asynchronous
async def test_interviews_survive_power_cuts(tmp_path: Path) -> None:
    """Accepted answers, stored frames and shown questions are there once; no turn is stuck; what
    was removed stays removed."""
    outcome = await endure(Lives, tmp_path, 1, 50)
    assert not outcome.violations, outcome
    assert outcome.acknowledged > 400


@pytest.mark.chaos
@pytest.mark.time_limit(3600)
@pytest.mark.parametrize("seed", range(1, 6))
@asynchronous
async def test_interviews_survive_hundreds_of_power_cuts(tmp_path: Path, seed: int) -> None:
    """The long form."""
    outcome = await endure(Lives, tmp_path, seed, 300)
    assert not outcome.violations, outcome
    assert outcome.cuts == 300
