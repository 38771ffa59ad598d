"""When a hint is due: a while after a question, counted anew whenever the candidate is at it."""

from prepserver.interview.transcript import Transcript
from prepserver.objects.object import Context

__all__ = ["HintTimer"]

MIN_POSTPONEMENT = 5.0
"""Seconds: typing moves the stored time at most this often, so that a keystroke costs no write."""

_KEY = "hint_due"


class HintTimer:
    """The hint of the open question; its time is stored, so it survives a restart."""

    def __init__(self, context: Context, transcript: Transcript, *, after: float) -> None:
        """`after` in seconds."""
        self._context = context
        self._transcript = transcript
        self._after = after

    @property
    def due(self) -> float | None:
        """Seconds since the Unix epoch; None also when the open question has its hint."""
        if self._transcript.hint() is not None:
            return None
        return self._context.storage.get(_KEY, float)

    def schedule(self) -> None:
        self._context.storage.put(_KEY, self._context.clock.now() + self._after)

    def clear(self) -> None:
        self._context.storage.delete(_KEY)

    def postpone(self) -> bool:
        """The candidate is busy with the question; whether the time was moved.

        A question gets one hint of its own accord: after it nothing is scheduled.
        """
        if self._transcript.open_question() is None or self._transcript.hint() is not None:
            return False
        due, new = self.due, self._context.clock.now() + self._after
        if due is not None and new - due < min(MIN_POSTPONEMENT, self._after / 10):
            return False
        self.schedule()
        return True
