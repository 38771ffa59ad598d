"""Random schedules of faults against the real server and the real client."""

import os
import random
from collections import Counter

import pytest

from tests.simulation import simulation, steps

SEEDS = 400
"""Number of seeds that the suite runs."""

CHAOS_SEEDS = 5_000
"""Number of seeds that the chaos test runs."""

ONLY_SEED = os.environ.get("PREP_SIMULATION_SEED")
"""Seed to run instead of all seeds, for examining a failure; None to run all seeds."""

REQUIRED_COVERAGE = (
    "UserMessage accepted",
    "Recording accepted",
    "MessageEdit accepted",
    "TurnStop accepted",
    "TurnRetry accepted",
    "HintRequest accepted",
    "InterviewEnd accepted",
    "answer from text",
    "answer from speech",
    "answer edited",
    "history summarised",
    "sent again",
    "snapshot during a reply",
    "crash during a turn",
    "crash during a commit",
    "crash while an object with clients hibernates",
    "closed with 1012",
    "closed with 4004",
    "aborted by the server",
    "turn question failed",
    "turn question stopped",
    "turn transcribe failed",
    "turn transcribe stopped",
    "turn summary done",
)
"""Events that must occur in the runs of the suite."""


def run_seeds(seeds: range) -> Counter[str]:
    coverage: Counter[str] = Counter()
    for seed in seeds if ONLY_SEED is None else [int(ONLY_SEED)]:
        coverage += simulation.run(seed).coverage
    return coverage


@pytest.mark.slow
@pytest.mark.time_limit(300)
def test_no_schedule_breaks_an_invariant() -> None:
    """The invariants hold after each step of 400 random schedules, which cover all required
    events."""
    coverage = run_seeds(range(SEEDS))
    if ONLY_SEED is None:
        assert [event for event in REQUIRED_COVERAGE if not coverage[event]] == []


@pytest.mark.chaos
@pytest.mark.time_limit(3600)
def test_no_schedule_of_thousands_breaks_an_invariant() -> None:
    """The invariants hold after each step of 5000 schedules, whose first seed is
    PREP_SIMULATION_FIRST or, by default, 400."""
    first = int(os.environ.get("PREP_SIMULATION_FIRST", SEEDS))
    coverage = run_seeds(range(first, first + CHAOS_SEEDS))
    print("\n".join(f"{count:8} {event}" for event, count in sorted(coverage.items())))


@pytest.mark.parametrize("seed", random.Random(1).sample(range(1_000), 4))
def test_equal_seeds_give_equal_runs(seed: int) -> None:
    """Two runs with the same seed give the clients the same states, so that a failure can be
    reproduced."""
    first = simulation.run(seed)
    assert simulation.run(seed).trace == first.trace


def test_any_steps_of_a_schedule_can_be_removed() -> None:
    """A schedule stays valid when steps are removed, as shrinking requires."""
    whole = steps.make_schedule(7, simulation.LENGTH)
    for start in range(0, simulation.LENGTH, 10):
        simulation.run(7, whole[:start] + whole[start + 15 :])
