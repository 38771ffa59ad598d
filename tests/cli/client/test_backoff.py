import random

import pytest

from prepcli.client.backoff import Backoff


class MaxRandom(random.Random):
    """Random number generator that always draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_delay_grows_to_ten_seconds_and_resets() -> None:
    """The backoff limit grows by a factor of 1.6 per delay from 0.25 s to 10 s; `reset` restores
    0.25 s."""
    backoff = Backoff(MaxRandom())
    delays = [backoff.next_delay() for _ in range(12)]
    assert delays[:3] == pytest.approx([0.25, 0.4, 0.64])
    assert delays[-1] == 10.0
    backoff.reset()
    assert backoff.next_delay() == 0.25


def test_jitter_is_full() -> None:
    """Delays are spread over the whole range from 0 to the backoff limit."""
    backoff = Backoff(random.Random(1))
    for _ in range(20):
        backoff.next_delay()
    delays = [backoff.next_delay() for _ in range(500)]
    assert min(delays) < 1.0
    assert max(delays) > 9.0


def test_announced_restart_keeps_delays_short() -> None:
    """An announced restart limits the next thirty delays to 2 s; later delays grow up to 10 s."""
    backoff = Backoff(MaxRandom())
    for _ in range(12):
        backoff.next_delay()
    backoff.expect_restart()
    delays = [backoff.next_delay() for _ in range(36)]
    assert delays[:31] == [2.0] * 31
    assert delays[-1] == 10.0


def test_repeated_restarts_do_not_reset_the_delay() -> None:
    """When a server keeps announcing restarts, delays still grow up to 2 s."""
    backoff = Backoff(MaxRandom())
    delays = []
    for _ in range(6):
        backoff.expect_restart()
        delays.append(backoff.next_delay())
    assert delays == pytest.approx([0.25, 0.4, 0.64, 1.024, 1.6384, 2.0])
