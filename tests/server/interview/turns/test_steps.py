"""The state machine of a turn."""

import pytest

from prepserver.interview.turns.steps import Step, next_step, phase_of
from prepserver.wire.protocol import Phase


@pytest.mark.parametrize(
    ("step", "phase"),
    [
        (None, "idle"),
        (Step.EXTRACT, "ai.extracting.skills"),
        (Step.TRANSCRIBE, "ai.transcribing.text"),
        (Step.QUESTION, "ai.generating.message"),
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


@pytest.mark.parametrize("step", [Step.EXTRACT, Step.TRANSCRIBE])
@pytest.mark.parametrize(
    ("answered", "questions", "then"),
    [
        (0, 1, Step.QUESTION),
        (1, 1, Step.CLOSING),
        (4, 5, Step.QUESTION),
        (5, 5, Step.CLOSING),
        (6, 5, Step.CLOSING),
    ],
)
def test_the_last_answer_leads_to_the_closing(
    step: Step, answered: int, questions: int, then: Step
) -> None:
    """The step after an extraction or a transcription is a question while answers are missing, and
    otherwise the closing."""
    assert next_step(step, answered=answered, questions=questions) is then


def test_the_closing_leads_to_the_summary() -> None:
    """The summary is the step after the closing."""
    assert next_step(Step.CLOSING, answered=5, questions=5) is Step.SUMMARY


@pytest.mark.parametrize("step", [Step.QUESTION, Step.HINT, Step.SUMMARY])
def test_a_question_a_hint_and_the_summary_end_their_turn(step: Step) -> None:
    """No step follows a question, a hint or the summary."""
    assert next_step(step, answered=0, questions=5) is None


@pytest.mark.parametrize("questions", [1, 5, 30])
def test_an_interview_of_any_length_ends(questions: int) -> None:
    """After its planned questions, an interview of any length ends with the closing and the
    summary."""
    step: Step | None = next_step(Step.EXTRACT, answered=0, questions=questions)
    asked = answered = 0
    while step is Step.QUESTION:
        asked += 1
        assert next_step(step, answered=answered, questions=questions) is None
        answered += 1
        step = next_step(Step.TRANSCRIBE, answered=answered, questions=questions)
    assert asked == questions
    assert step is Step.CLOSING
    step = next_step(step, answered=answered, questions=questions)
    assert step is Step.SUMMARY
    assert next_step(step, answered=answered, questions=questions) is None
