"""How long to wait before connecting again."""

import random

__all__ = ["Backoff"]

FIRST = 0.25
GROWTH = 1.6
LONGEST = 10.0
RESTART_LONGEST = 2.0
"""Seconds."""

RESTART_ATTEMPTS = 30
"""So many attempts, half a minute on average, are made for a server that said it would be back."""


class Backoff:
    """Exponential backoff with full jitter: uniform between 0 and a limit that grows.

    Full jitter spreads the clients of a server that restarts better than a jitter around the
    limit does: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._limit = FIRST
        self._expected = 0

    def reset(self) -> None:
        """The last connection was good."""
        self._limit = FIRST

    def expect_restart(self) -> None:
        """The server said that it is restarting: for a while the limit stays low, so that its
        clients are back within three seconds of the start however their luck has been."""
        self._limit = min(self._limit, RESTART_LONGEST)
        self._expected = RESTART_ATTEMPTS

    def next(self) -> float:
        """Seconds until the next attempt."""
        longest = RESTART_LONGEST if self._expected > 0 else LONGEST
        self._expected = max(0, self._expected - 1)
        limit, self._limit = self._limit, min(longest, self._limit * GROWTH)
        return self._rng.uniform(0.0, limit)
