"""Whose turn it is, when several people speak at once."""

from collections.abc import Sequence

from msgspec import Struct

__all__ = ["PendingWork", "first"]


class PendingWork(Struct, frozen=True):
    """One recording's next piece of work."""

    since: float
    """Seconds on some clock: when the piece came up, or when this recording last had a turn,
    whichever was later."""
    last: bool = False
    """Whether it is all that is left of a recording that is over: somebody waits for just this."""


def first(turns: Sequence[PendingWork | None]) -> int | None:
    """Which of them goes first; None if there is none.

    Who has stopped speaking waits for one last piece: those go before the rest, since each
    recording has only one of them. Otherwise who waits longest. A long recording that is there as
    a whole waits anew after each of its segments, so it takes turns with everybody else.
    """
    waiting = [(not turn.last, turn.since, n) for n, turn in enumerate(turns) if turn is not None]
    return min(waiting)[2] if waiting else None
