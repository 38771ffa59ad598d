import random

import pytest

from prepcli.client.backoff import Backoff


class Ceiling(random.Random):
    """Draws the largest number there is."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_wait_grows_to_ten_seconds_and_begins_anew() -> None:
    """The limit starts at a quarter of a second, grows by 1.6, and ends at 10 s."""
    backoff = Backoff(Ceiling())
    waits = [backoff.next() for _ in range(12)]
    assert waits[:3] == pytest.approx([0.25, 0.4, 0.64])
    assert waits[-1] == 10.0
    backoff.reset()
    assert backoff.next() == 0.25


def test_the_jitter_is_full() -> None:
    """Waits are spread from nothing to the limit, so that clients do not come back together."""
    backoff = Backoff(random.Random(1))
    for _ in range(20):
        backoff.next()
    waits = [backoff.next() for _ in range(500)]
    assert min(waits) < 1.0
    assert max(waits) > 9.0


def test_an_announced_restart_keeps_the_waits_short_for_a_while() -> None:
    """At most two seconds between attempts, thirty times; then the server is just not there."""
    backoff = Backoff(Ceiling())
    for _ in range(12):
        backoff.next()
    backoff.expect_restart()
    waits = [backoff.next() for _ in range(36)]
    assert waits[:31] == [2.0] * 31
    assert waits[-1] == 10.0


def test_announcing_a_restart_again_and_again_is_no_reason_to_hurry() -> None:
    """A server that sends everybody away at once is asked less and less often."""
    backoff = Backoff(Ceiling())
    waits = []
    for _ in range(6):
        backoff.expect_restart()
        waits.append(backoff.next())
    assert waits == pytest.approx([0.25, 0.4, 0.64, 1.024, 1.6384, 2.0])
