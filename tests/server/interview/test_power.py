"""Power cuts during interviews: acknowledged messages survive."""

from pathlib import Path

import pytest

from tests.server.interview.power_history import InterviewHistory
from tests.support.histories import run_power_cuts
from tests.support.loop import asynchronous


@asynchronous
async def test_interviews_survive_power_cuts(tmp_path: Path) -> None:
    """After each power cut, accepted answers, acknowledged frames and shown questions are stored
    once, no turn is stuck, and deleted interviews stay deleted."""
    outcome = await run_power_cuts(InterviewHistory, tmp_path, 1, 50)
    assert not outcome.violations, outcome
    assert outcome.acknowledged > 400


@pytest.mark.chaos
@pytest.mark.time_limit(3600)
@pytest.mark.parametrize("seed", range(1, 6))
@asynchronous
async def test_interviews_survive_more_power_cuts(tmp_path: Path, seed: int) -> None:
    """Acknowledged messages survive 300 power cuts with each seed."""
    outcome = await run_power_cuts(InterviewHistory, tmp_path, seed, 300)
    assert not outcome.violations, outcome
    assert outcome.cuts == 300
