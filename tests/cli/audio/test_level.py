import math
import struct

import pytest

from prepcli.audio.level import SILENCE, rms


def pcm(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def test_full_scale_square_wave_is_0_dbfs() -> None:
    """A square wave at full scale has a level of 0 dBFS."""
    assert rms(pcm(-32768, 32767) * 100) == pytest.approx(0.0, abs=0.001)


def test_sine_is_three_decibels_below_its_peak() -> None:
    """The RMS level of a sine at half of full scale is -9.03 dBFS, 3.01 dB below its peak level."""
    sine = pcm(*(round(16384 * math.sin(2 * math.pi * n / 100)) for n in range(1000)))
    assert rms(sine) == pytest.approx(-9.03, abs=0.01)


@pytest.mark.parametrize("data", [b"", b"\x01", pcm(0, 0, 0)])
def test_silence_has_a_finite_level(data: bytes) -> None:
    """Silence and data without a complete sample have the lowest level, which is finite."""
    assert rms(data) == SILENCE


def test_incomplete_last_sample_is_dropped() -> None:
    """An incomplete sample at the end of a block does not affect the level."""
    assert rms(pcm(32767) + b"\x01") == pytest.approx(0.0, abs=0.001)
