"""Amplification of quiet recordings."""

import numpy as np
import pytest
from numpy.typing import NDArray

from prepserver.engines.gain import MAX_GAIN, LoudnessTracker, amplify, gain_for


def noise(level: float, seconds: float = 2.0) -> NDArray[np.int16]:
    """Return noise whose root mean square is `level`, between 0 and 1."""
    random = np.random.default_rng(1)
    return (random.normal(0, level * 32_768, round(seconds * 16_000))).astype(np.int16)


def level_of(samples: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(np.square(samples / 32_768))))


@pytest.mark.parametrize("decibels", [-35, -45, -50, -60, -66])
def test_quiet_audio_is_raised_to_ordinary_loudness(decibels: int) -> None:
    """Audio far below full scale is amplified to about 16 dB below full scale."""
    assert level_of(amplify(noise(10 ** (decibels / 20)))) == pytest.approx(0.15, rel=0.1)


@pytest.mark.parametrize("decibels", [-28, -20, -10])
def test_ordinary_audio_is_left_unchanged(decibels: int) -> None:
    """Audio of ordinary loudness keeps every sample."""
    samples = noise(10 ** (decibels / 20))
    assert np.array_equal(amplify(samples), samples)


def test_a_knock_does_not_hide_quiet_speech() -> None:
    """A loud click in a quiet recording is clipped, and the rest is amplified."""
    samples = noise(0.001)
    samples[5_000:5_200] = 32_767
    loud = amplify(samples)
    assert level_of(loud[8_000:]) == pytest.approx(0.15, rel=0.1)
    assert int(loud.max()) == 32_767


@pytest.mark.parametrize("count", [0, 1, 511])
def test_short_and_silent_audio_is_left_unchanged(count: int) -> None:
    """Audio shorter than a chunk and digital silence are returned as they are."""
    assert not amplify(np.zeros(count + 2_000, np.int16)).any()
    assert len(amplify(np.ones(count, np.int16))) == count
    assert gain_for(0.0) == MAX_GAIN


def test_loud_audio_ends_the_amplification_at_once() -> None:
    """A running recording is amplified while it is quiet, and not from its first loud chunk on."""
    tracker = LoudnessTracker()
    assert [tracker.next_gain(0.001) for _ in range(3)] == [pytest.approx(150.0)] * 3
    assert tracker.next_gain(0.2) == 1.0
    for _ in range(20):
        tracker.next_gain(0.2)
    assert tracker.next_gain(0.001) == 1.0
