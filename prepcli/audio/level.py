"""Loudness of PCM16 audio."""

import numpy as np

__all__ = ["SILENCE", "rms"]

SILENCE = -96.0
"""Level of digital silence in dBFS: 16-bit samples have a dynamic range of 96 dB."""

_FULL_SCALE = 32768.0


def rms(pcm: bytes) -> float:
    """Return the root mean square of PCM16 little-endian samples in dBFS, from SILENCE to 0.

    A square wave at full scale is 0 dBFS, so a sine wave at full scale is -3 dBFS.
    """
    samples = _decode_samples(pcm)
    return _to_decibels(float(np.sqrt(np.mean(samples * samples)))) if samples.size else SILENCE


def _decode_samples(pcm: bytes) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Decode PCM16 samples to the range from -1 to 1. An incomplete last sample is dropped."""
    return np.frombuffer(pcm, "<i2", len(pcm) // 2).astype(np.float64) / _FULL_SCALE


def _to_decibels(amplitude: float) -> float:
    return max(SILENCE, 20.0 * float(np.log10(amplitude))) if amplitude > 0.0 else SILENCE
