"""What a binding to whisper.cpp does for the engine."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from prepserver.engines.types import Word
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["RawSegment", "Transcriber", "geometric_mean", "unloadable"]


class RawSegment(Struct, frozen=True):
    """What whisper.cpp calls a segment, before anybody has looked at it."""

    start: float
    """Seconds from the beginning of the samples."""
    end: float
    text: str
    probability: float
    """Geometric mean over the tokens that are text, 0 to 1; 1 when there are none."""
    words: tuple[Word, ...] = ()
    """When each word was said, from the beginning of the samples; of a binding that does not
    know, none."""


class Transcriber(Protocol):
    """One loaded model. What is asked of it leaves nothing behind for the next request."""

    def hear(
        self,
        samples: NDArray[np.float32],
        *,
        vocabulary: str,
        context: int,
        patient: bool,
        proceed: Callable[[], bool],
    ) -> list[RawSegment] | None:
        """Write down samples between -1 and 1 at 16 kHz, in English.

        `context` in positions of 20 ms that the encoder looks at, at most 1500; 0 means all.
        `patient`: whether to try again, less strictly, what came out unlikely or looping.
        `proceed` is asked many times a second; once it says no, None is given back where the
        binding can be interrupted. Raises InferenceError.
        """


def geometric_mean(probabilities: list[float]) -> float:
    """Of numbers from 0 to 1; 1 of none."""
    if not probabilities:
        return 1.0
    return float(np.exp(np.mean(np.log(np.maximum(probabilities, 1e-9)))))


def unloadable(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.MODEL_NOT_LOADED, retryable=False)
