import math
import struct

import pytest

from prepcli.audio.level import SILENCE, peak, rms


def pcm(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def test_full_scale_is_zero() -> None:
    """A square wave at full scale is at 0 dBFS by both measures."""
    square = pcm(-32768, 32767) * 100
    assert rms(square) == pytest.approx(0.0, abs=0.001)
    assert peak(square) == pytest.approx(0.0, abs=0.001)


def test_a_sine_is_three_decibels_under_its_peak() -> None:
    """RMS of a sine is its peak less 3.01 dB."""
    sine = pcm(*(round(16384 * math.sin(2 * math.pi * n / 100)) for n in range(1000)))
    assert peak(sine) == pytest.approx(-6.02, abs=0.01)
    assert rms(sine) == pytest.approx(-9.03, abs=0.01)


@pytest.mark.parametrize("data", [b"", b"\x01", pcm(0, 0, 0)])
def test_silence_has_a_floor(data: bytes) -> None:
    """Nothing at all is the lowest level, not minus infinity."""
    assert rms(data) == SILENCE
    assert peak(data) == SILENCE


def test_half_a_sample_at_the_end_is_left_out() -> None:
    """A block that was cut anywhere can be measured."""
    assert rms(pcm(32767) + b"\x01") == pytest.approx(0.0, abs=0.001)
