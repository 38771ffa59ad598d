"""The state machine of a turn."""

import pytest

from prepserver.interview.turns.steps import Step, phase_of
from prepserver.wire.protocol import Phase


@pytest.mark.parametrize(
    ("step", "phase"),
    [
        (None, "idle"),
        (Step.EXTRACT, "ai.extracting.skills"),
        (Step.TRANSCRIBE, "ai.transcribing.text"),
        (Step.ASSESS, "ai.generating.message"),
        (Step.QUESTION, "ai.generating.message"),
        (Step.REPLY, "ai.generating.message"),
        (Step.HINT, "ai.generating.hint"),
        (Step.CLOSING, "ai.generating.message"),
        (Step.SUMMARY, "ai.generating.message"),
    ],
)
def test_each_step_has_a_phase(step: Step | None, phase: str) -> None:
    """Each step is shown to clients as a specific phase of the protocol; without a step, the phase
    is idle."""
    assert phase_of(step) is Phase(phase)


def test_every_step_is_visible() -> None:
    """No step is shown to clients as idle."""
    for step in Step:
        assert phase_of(step) is not Phase.IDLE
