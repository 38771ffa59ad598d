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
