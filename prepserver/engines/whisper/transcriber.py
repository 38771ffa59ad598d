"""Interface of a binding to whisper.cpp."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prepserver.engines.transcripts import RawSegment
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Transcriber", "model_not_loaded"]


class Transcriber(Protocol):
    """Loaded speech model. Calls are independent: no state carries over from one call to the
    next."""

    @property
    def multilingual(self) -> bool:
        """True if the model knows languages other than English."""

    def detect_language(
        self, samples: NDArray[np.float32], *, audio_ctx: int
    ) -> Mapping[str, float]:
        """Return the probability of each language that the model knows, by its ISO 639 code.

        The arguments have the same meaning as in `transcribe`. Raises InferenceError if the
        detection fails.
        """

    def transcribe(
        self,
        samples: NDArray[np.float32],
        *,
        language: str,
        vocabulary: str,
        audio_ctx: int,
        temperature_fallback: bool,
        should_continue: Callable[[], bool],
    ) -> list[RawSegment] | None:
        """Transcribe speech, given as samples between -1 and 1 at 16 kHz.

        `language` is an ISO 639 code. `audio_ctx` is the number of encoder positions, 20 ms each
        and 1,500 at most; 0 means all. If `temperature_fallback` is True, unlikely or repetitive
        text is decoded again at higher temperatures. `should_continue` is polled while the call
        runs; once it returns False, a binding that can be interrupted stops, and the call returns
        None. Raises InferenceError if the transcription fails.
        """


def model_not_loaded(message: str) -> InferenceError:
    return InferenceError(message, code=ErrorCode.MODEL_NOT_LOADED, retryable=False)
