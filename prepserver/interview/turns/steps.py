"""The state machine of a turn, pure: which step comes next, and what clients see meanwhile."""

import enum

from prepserver.wire.protocol import Phase

__all__ = ["Step", "TurnState", "next_step", "phase_of"]


class Step(enum.StrEnum):
    """What a turn asks of the models next."""

    EXTRACT = "extract"
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
    """What clients are shown while a step is under way; idle when none is."""
    return Phase.IDLE if step is None else _PHASES[step]


def next_step(step: Step, *, answered: int, questions: int) -> Step | None:
    """The step after `step`, or None when the turn is done.

    `answered` counts the answers stored so far, of `questions` planned ones.
    """
    match step:
        case Step.EXTRACT | Step.TRANSCRIBE:
            return Step.CLOSING if answered >= questions else Step.QUESTION
        case Step.CLOSING:
            return Step.SUMMARY
        case _:
            return None
