"""Buffer for the part of a recording that is still needed."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SampleBuffer"]

GROWTH = 16_000
"""Minimum number of samples by which the buffer grows or shrinks."""


class SampleBuffer:
    """Buffer of 16-bit samples, which are appended at the end and discarded at the beginning.

    Positions count samples from the beginning of the recording, including discarded samples.
    """

    def __init__(self) -> None:
        self._data: NDArray[np.int16] = np.zeros(0, np.int16)
        self._begin = 0
        """Position of the first sample that is kept."""
        self._length = 0
        """Number of samples that are kept."""

    @property
    def end(self) -> int:
        """Position after the last sample."""
        return self._begin + self._length

    @property
    def capacity(self) -> int:
        """Number of samples for which memory is allocated."""
        return len(self._data)

    def append(self, samples: NDArray[np.int16]) -> None:
        needed = self._length + len(samples)
        if needed > len(self._data):
            data = np.zeros(needed + max(GROWTH, needed // 2), np.int16)
            data[: self._length] = self._data[: self._length]
            self._data = data
        self._data[self._length : needed] = samples
        self._length = needed

    def copy_range(self, begin: int, end: int) -> NDArray[np.int16]:
        """Return a copy of the samples in [begin, end); positions not in the buffer are skipped."""
        first = max(0, begin - self._begin)
        return self._data[first : max(first, min(self._length, end - self._begin))].copy()

    def discard_before(self, position: int) -> None:
        """Allow the samples before `position` to be freed."""
        count = max(0, min(self._length, position - self._begin))
        # Moving the rest costs time, which only many discarded samples repay.
        if count > GROWTH:
            self._data = self._data[count : self._length].copy()
            self._begin += count
            self._length -= count
