"""Evaluation of the starter set, in a few short interviews."""

import asyncio
from pathlib import Path

import pytest

from prepserver.evaluation.evaluate import evaluate
from prepserver.evaluation.plans import plan_injections, plan_interviews
from prepserver.evaluation.report import format_failures
from prepserver.evaluation.scripts import load_scripts

CANDIDATES = ("strong", "asks-for-help", "asks-back", "vague", "dont-know", "hostile")

STARTER = "smollm2-135m-instruct"

FOLLOW_UPS = "follow-up takes up the answer and is well-formed"
MIN_FOLLOW_UPS = 0.4
"""Minimum share in so few interviews; the threshold belongs to the whole evaluation."""


@pytest.mark.models
def test_the_starter_set_meets_its_thresholds(models_dir: Path) -> None:
    """No threshold is missed in six interviews and with four injections. Times are not judged,
    because other processes distort them."""
    scripts = load_scripts()
    planned = plan_interviews(scripts, 3, candidates=CANDIDATES, each=1, questions=4)
    planned += plan_injections(scripts, 3, limit=1)
    result = asyncio.run(
        evaluate(planned, model=STARTER, name="starter", seed=3, models_dir=models_dir)
    )
    assert result.system.profile == "starter"
    rows = {row.name: row for row in result.results if row.unit != "seconds"}
    follow_ups = rows.pop(FOLLOW_UPS)
    assert {name for name, row in rows.items() if row.met is False} == set(), format_failures(
        result
    )
    assert follow_ups.value is not None
    assert follow_ups.value >= MIN_FOLLOW_UPS, format_failures(result)
    unmeasured = {row.name for row in result.results if row.value is None}
    assert unmeasured == set()
