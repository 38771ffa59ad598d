"""The sound of a recording, as far as it is still needed."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SampleBuffer"]

GROWTH = 16_000
"""Samples by which the room for it grows at least."""


class SampleBuffer:
    """16-bit samples that come at one end and are forgotten at the other."""

    def __init__(self) -> None:
        self._room: NDArray[np.int16] = np.zeros(0, np.int16)
        self._begin = 0
        """The position of the first sample kept, from the beginning of the recording."""
        self._length = 0
        """How many are kept."""

    @property
    def end(self) -> int:
        """Samples taken so far, forgotten ones too."""
        return self._begin + self._length

    @property
    def room(self) -> int:
        """Samples that there is memory for now."""
        return len(self._room)

    def add(self, samples: NDArray[np.int16]) -> None:
        needed = self._length + len(samples)
        if needed > len(self._room):
            room = np.zeros(needed + max(GROWTH, needed // 2), np.int16)
            room[: self._length] = self._room[: self._length]
            self._room = room
        self._room[self._length : needed] = samples
        self._length = needed

    def part(self, begin: int, end: int) -> NDArray[np.int16]:
        """A copy of the samples from `begin` to before `end`; those that there are not are left
        out."""
        first = max(0, begin - self._begin)
        return self._room[first : max(first, min(self._length, end - self._begin))].copy()

    def forget(self, before: int) -> None:
        """The samples before a position are not needed any more."""
        gone = max(0, min(self._length, before - self._begin))
        # Moving the rest costs time; it is worth it when much is gone.
        if gone > GROWTH:
            self._room = self._room[gone : self._length].copy()
            self._begin += gone
            self._length -= gone
