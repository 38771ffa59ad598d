"""Timer of the automatic hint; each sign that the candidate is active restarts the timer."""

from prepserver.interview.transcript import Transcript
from prepserver.objects.object import Context

__all__ = ["HintTimer"]

MIN_POSTPONEMENT = 5.0
"""Minimum number of seconds by which the due time is postponed, or a tenth of the delay if that is
less. Shorter postponements are skipped, so that most keystrokes cost no write."""

_HINT_DUE = "hint_due"
"""Storage key of the time at which the hint is due."""


class HintTimer:
    """Timer that schedules the hint for the open question. The due time is stored and survives a
    restart."""

    def __init__(self, context: Context, transcript: Transcript, *, after: float) -> None:
        """Create a timer with a delay of `after` seconds."""
        self._context = context
        self._transcript = transcript
        self._after = after

    @property
    def due(self) -> float | None:
        """Due time of the hint, in seconds since the Unix epoch; None if no hint is scheduled or
        the open question already has one."""
        if self._transcript.hint() is not None:
            return None
        return self._context.storage.get(_HINT_DUE, float)

    def schedule(self) -> None:
        self._context.storage.put(_HINT_DUE, self._context.clock.now() + self._after)

    def clear(self) -> None:
        self._context.storage.delete(_HINT_DUE)

    def postpone(self) -> bool:
        """Restart the timer of the open question. Return True if the stored time changed.

        Do nothing if no question is open, or if the open question already has a hint: a second
        hint is never automatic.
        """
        if self._transcript.open_question() is None or self._transcript.hint() is not None:
            return False
        due, new = self.due, self._context.clock.now() + self._after
        if due is not None and new - due < min(MIN_POSTPONEMENT, self._after / 10):
            return False
        self.schedule()
        return True
