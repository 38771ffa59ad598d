"""How long to wait before connecting again."""

import random

__all__ = ["Backoff"]

FIRST = 0.25
GROWTH = 1.6
LONGEST = 10.0
"""Seconds."""


class Backoff:
    """Exponential backoff with full jitter: uniform between 0 and a limit that grows.

    Full jitter spreads the clients of a server that restarts better than a jitter around the
    limit does: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._limit = FIRST

    def reset(self) -> None:
        """The last connection was good."""
        self._limit = FIRST

    def next(self) -> float:
        """Seconds until the next attempt."""
        limit, self._limit = self._limit, min(LONGEST, self._limit * GROWTH)
        return self._rng.uniform(0.0, limit)
