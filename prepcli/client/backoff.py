"""Delays between attempts to reconnect."""

import random

__all__ = ["Backoff"]

INITIAL_LIMIT = 0.25
"""Initial backoff limit in seconds; a delay never exceeds the current limit."""

GROWTH = 1.6
"""Factor by which the backoff limit grows from one attempt to the next."""

MAX_LIMIT = 10.0
"""Upper bound of the backoff limit, in seconds."""

MAX_RESTART_LIMIT = 2.0
"""Upper bound of the backoff limit, in seconds, after the server has announced a restart."""

RESTART_ATTEMPTS = 30
"""Number of attempts for which `MAX_RESTART_LIMIT` applies; their delays add up to half a minute on
average."""


class Backoff:
    """Exponential backoff with full jitter: delays are uniform between 0 and a growing limit.

    Full jitter spreads the clients of a restarting server better than jitter around the limit:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._limit = INITIAL_LIMIT
        self._restart_attempts = 0

    def reset(self) -> None:
        """Reset the backoff limit to its initial value after a stable connection."""
        self._limit = INITIAL_LIMIT

    def expect_restart(self) -> None:
        """Keep the next `RESTART_ATTEMPTS` delays short, because the server has announced a
        restart.

        Unless the restart takes longer than these delays together, the client reconnects within
        three seconds of the server's start.
        """
        self._limit = min(self._limit, MAX_RESTART_LIMIT)
        self._restart_attempts = RESTART_ATTEMPTS

    def next_delay(self) -> float:
        """Return the delay in seconds before the next attempt, and raise the limit for later
        delays."""
        max_limit = MAX_RESTART_LIMIT if self._restart_attempts > 0 else MAX_LIMIT
        self._restart_attempts = max(0, self._restart_attempts - 1)
        limit, self._limit = self._limit, min(max_limit, self._limit * GROWTH)
        return self._rng.uniform(0.0, limit)
