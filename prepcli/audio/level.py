"""How loud a piece of a recording is."""

import numpy as np

__all__ = ["SILENCE", "peak", "rms"]

SILENCE = -96.0
"""dBFS that stands for nothing at all: the range of 16 bits, 20 log10(2^16)."""

_FULL_SCALE = 32768.0


def rms(pcm: bytes) -> float:
    """Root mean square of PCM16 little-endian samples in dBFS, from SILENCE to 0.

    0 dBFS is a square wave at full scale, so a sine at full scale is at -3.
    """
    samples = _samples(pcm)
    return _decibels(float(np.sqrt(np.mean(samples * samples)))) if samples.size else SILENCE


def peak(pcm: bytes) -> float:
    """The largest sample of PCM16 little-endian in dBFS, from SILENCE to 0."""
    samples = _samples(pcm)
    return _decibels(float(np.max(np.abs(samples)))) if samples.size else SILENCE


def _samples(pcm: bytes) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.frombuffer(pcm, "<i2", len(pcm) // 2).astype(np.float64) / _FULL_SCALE


def _decibels(amplitude: float) -> float:
    return max(SILENCE, 20.0 * float(np.log10(amplitude))) if amplitude > 0.0 else SILENCE
