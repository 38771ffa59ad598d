"""State machine of a turn: its steps, and the phase that clients see."""

import enum

from prepserver.wire.protocol import Phase

__all__ = ["Step", "TurnState", "phase_of"]


class Step(enum.StrEnum):
    """Step of a turn: one piece of work beside the interview. A turn runs one or more steps in
    order."""

    EXTRACT = "extract"
    """Search of the documents for skills, and planning of the agenda."""
    TRANSCRIBE = "transcribe"
    ASSESS = "assess"
    """Assessment of an answer, and choice of the next move."""
    QUESTION = "question"
    REPLY = "reply"
    """Reply to a request of the candidate."""
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
    Step.ASSESS: Phase.GENERATING,
    Step.QUESTION: Phase.GENERATING,
    Step.REPLY: Phase.GENERATING,
    Step.HINT: Phase.HINTING,
    Step.CLOSING: Phase.GENERATING,
    Step.SUMMARY: Phase.GENERATING,
}


def phase_of(step: Step | None) -> Phase:
    """Return the phase that clients see during `step`, or `idle` if `step` is None."""
    return Phase.IDLE if step is None else _PHASES[step]
