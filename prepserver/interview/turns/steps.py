"""State machine of a turn: the order of its steps, and the phase that clients see."""

import enum

from prepserver.wire.protocol import Phase

__all__ = ["Step", "TurnState", "next_step", "phase_of"]


class Step(enum.StrEnum):
    """Step of a turn: one request to the models. A turn runs one or more steps in order."""

    EXTRACT = "extract"
    """Extraction of the skills that the interview is to cover."""
    TRANSCRIBE = "transcribe"
    QUESTION = "question"
    HINT = "hint"
    CLOSING = "closing"
    SUMMARY = "summary"


class TurnState(enum.StrEnum):
    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


_PHASES = {
    Step.EXTRACT: Phase.EXTRACTING,
    Step.TRANSCRIBE: Phase.TRANSCRIBING,
    Step.QUESTION: Phase.GENERATING,
    Step.HINT: Phase.HINTING,
    Step.CLOSING: Phase.GENERATING,
    Step.SUMMARY: Phase.GENERATING,
}


def phase_of(step: Step | None) -> Phase:
    """Return the phase that clients see during `step`, or `idle` if `step` is None."""
    return Phase.IDLE if step is None else _PHASES[step]


def next_step(step: Step, *, answered: int, questions: int) -> Step | None:
    """Return the step after `step`, or None at the end of the turn.

    `answered` is the number of answers, and `questions` is the planned number of questions.
    """
    match step:
        case Step.EXTRACT | Step.TRANSCRIBE:
            return Step.CLOSING if answered >= questions else Step.QUESTION
        case Step.CLOSING:
            return Step.SUMMARY
        case _:
            return None
