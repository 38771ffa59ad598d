"""Amplification of quiet recordings, which neither Silero's detector nor Whisper recognises.

Recordings of ordinary loudness are left unchanged.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["LoudnessTracker", "amplify", "gain_for"]

QUIET = 0.03
"""Level of speech below which a recording is amplified, 0 to 1: 30 dB below full scale."""
TARGET = 0.15
"""Level of speech after the amplification."""
MAX_GAIN = 500.0
"""Maximum factor. Speech that needs more has less than two bits per sample."""
QUANTILE = 0.9
"""Fraction of chunks that are quieter than the level of speech. A click or a knock is louder."""
WINDOW_CHUNKS = 94
"""Number of chunks, three seconds, over which a running recording's level is measured."""
LEVEL_SAMPLES = 512
"""Number of samples over which one level is measured; 32 ms of audio at 16 kHz."""
FULL_SCALE = 32_768


def gain_for(level: float) -> float:
    """Return the factor by which a recording with this level of speech is amplified."""
    return 1.0 if level >= QUIET else min(MAX_GAIN, TARGET / max(level, 1e-9))


class LoudnessTracker:
    """Tracker of the level of speech in a running recording."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=WINDOW_CHUNKS)

    def next_gain(self, level: float) -> float:
        """Add a chunk with the root mean square `level`, and return the gain for this chunk.

        A chunk louder than the last three seconds sets the level at once.
        """
        self._levels.append(level)
        return gain_for(max(level, _speech_level(self._levels)))


def amplify(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return 16-bit samples, amplified if their speech is quiet. Peaks are clipped."""
    count = len(samples) // LEVEL_SAMPLES
    if not count:
        return samples
    chunks = samples[: count * LEVEL_SAMPLES].reshape(count, LEVEL_SAMPLES) / FULL_SCALE
    levels = np.sqrt(np.mean(np.square(chunks), axis=1))
    gain = gain_for(_speech_level(levels.tolist()))
    if gain == 1.0:
        return samples
    loud: NDArray[np.float64] = np.clip(samples * gain, -FULL_SCALE, FULL_SCALE - 1)
    return loud.astype(np.int16)


def _speech_level(levels: Iterable[float]) -> float:
    ordered = sorted(levels)
    return ordered[int(QUANTILE * (len(ordered) - 1))]
