"""Transcription with pywhispercpp, which bundles a recent version of whisper.cpp.

Importing this module loads the native library.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import _pywhispercpp as lib
import numpy as np
from numpy.typing import NDArray

from prepserver.engines.transcripts import RawSegment, geometric_mean
from prepserver.engines.whisper.languages import ENGLISH
from prepserver.engines.whisper.transcriber import model_not_loaded
from prepserver.engines.whisper.word_timing import TimedToken, join_tokens
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["PywhispercppTranscriber"]

LOG_LEVEL_ERROR = 4
"""Value of GGML_LOG_LEVEL_ERROR in the bundled whisper.cpp."""
ABORT_POLL_SECONDS = 0.02
"""Minimum seconds between two calls of `should_continue`; whisper.cpp calls the abort callback
thousands of times a second."""
MAX_TOKENS_PER_SECOND, MIN_TOKENS = 25, 16
"""Maximum number of tokens in the text of a second of speech, and the number allowed in addition.
Without a limit, a decoder caught in a loop fills its context for every temperature."""
UNENCODED = np.zeros(SAMPLE_RATE // 2, np.float32)
"""Samples that whisper.cpp accepts but does not encode, because they last less than a second."""
TICKS_PER_SECOND = 100
"""Number of whisper.cpp's time units per second."""


class PywhispercppTranscriber:
    """Implementation of `prepserver.engines.whisper.transcriber.Transcriber` with pywhispercpp."""

    def __init__(self, path: str, n_threads: int) -> None:
        """Load the model. Raises InferenceError, code `model_not_loaded`."""
        self._n_threads = n_threads
        errors: list[str] = []

        def collect_errors(level: int, text: str, *_: Any) -> None:
            if level == LOG_LEVEL_ERROR:
                errors.append(text.strip())

        # After a failure the binding still returns a context, and using that one crashes. Only
        # the library's log tells whether the model was loaded.
        lib.whisper_log_set(collect_errors)
        try:
            self._context = lib.whisper_init_from_file_with_params(
                path, lib.whisper_context_default_params()
            )
        except (ValueError, RuntimeError, MemoryError, IndexError) as error:
            errors.append(str(error))
        finally:
            lib.whisper_log_set(None)
        if errors:
            raise model_not_loaded(
                f"whisper.cpp cannot load {path} ({errors[0]}). Fetch the model again."
            )
        self._end_of_text = lib.whisper_token_eot(self._context)
        self._languages = [
            lib.whisper_lang_str(number) for number in range(lib.whisper_lang_max_id() + 1)
        ]

    @property
    def multilingual(self) -> bool:
        return bool(lib.whisper_is_multilingual(self._context))

    def detect_language(
        self, samples: NDArray[np.float32], *, audio_ctx: int
    ) -> Mapping[str, float]:
        # whisper.cpp detects the language with the encoder window of the previous call. This call,
        # which is too short to be encoded, sets the window.
        params = self._params(ENGLISH, "", audio_ctx, temperature_fallback=False)
        lib.whisper_full(self._context, params, UNENCODED, UNENCODED.size)
        probabilities = np.zeros(len(self._languages), np.float32)
        code = lib.whisper_pcm_to_mel(self._context, samples, samples.size, self._n_threads)
        if code == 0:
            code = lib.whisper_lang_auto_detect(self._context, 0, self._n_threads, probabilities)
        if code < 0:
            raise InferenceError(
                f"The language of the recording could not be detected (code {code}). Try again.",
                code=ErrorCode.TRANSCRIPTION_FAILED,
            )
        return dict(zip(self._languages, probabilities.tolist(), strict=True))

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
        params = self._params(language, vocabulary, audio_ctx, temperature_fallback)
        params.max_tokens = MIN_TOKENS + round(MAX_TOKENS_PER_SECOND * samples.size / SAMPLE_RATE)
        abort = _AbortCallback(should_continue)
        lib.assign_abort_callback(params, abort)
        code = lib.whisper_full(self._context, params, samples, samples.size)
        if abort.requested:
            return None
        if code != 0:
            raise InferenceError(
                f"Transcription failed (whisper_full returned {code}). Try again.",
                code=ErrorCode.TRANSCRIPTION_FAILED,
            )
        return [self._segment(n) for n in range(lib.whisper_full_n_segments(self._context))]

    def _params(
        self, language: str, vocabulary: str, audio_ctx: int, temperature_fallback: bool
    ) -> Any:
        """Return new parameters, so that no setting carries over from an earlier call."""
        params = lib.whisper_full_default_params(
            lib.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY
        )
        params.n_threads = self._n_threads
        params.language = language
        params.no_context = True
        params.audio_ctx = audio_ctx
        params.token_timestamps = True
        if not temperature_fallback:
            params.temperature_inc = 0.0
        params.print_progress = False
        params.print_realtime = False
        params.print_timestamps = False
        if vocabulary:
            params.initial_prompt = vocabulary
            params.carry_initial_prompt = True
        return params

    def _segment(self, n: int) -> RawSegment:
        context = self._context
        text_tokens = [
            lib.whisper_full_get_token_data(context, n, token)
            for token in range(lib.whisper_full_n_tokens(context, n))
            if lib.whisper_full_get_token_id(context, n, token) < self._end_of_text
        ]
        return RawSegment(
            start=lib.whisper_full_get_segment_t0(context, n) / TICKS_PER_SECOND,
            end=lib.whisper_full_get_segment_t1(context, n) / TICKS_PER_SECOND,
            text=lib.whisper_full_get_segment_text(context, n).decode("utf-8", "replace"),
            probability=geometric_mean([token.p for token in text_tokens]),
            words=join_tokens(
                TimedToken(
                    lib.whisper_token_to_bytes(context, token.id),
                    token.t0 / TICKS_PER_SECOND,
                    token.t1 / TICKS_PER_SECOND,
                    token.p,
                )
                for token in text_tokens
            ),
        )


class _AbortCallback:
    """Callback for whisper.cpp that calls `should_continue` at most once every 20 ms."""

    def __init__(self, should_continue: Callable[[], bool]) -> None:
        self.requested = False
        self._should_continue = should_continue
        self._polled_at = time.monotonic()

    def __call__(self) -> bool:
        """Return True if whisper.cpp must abort the transcription."""
        if not self.requested and time.monotonic() - self._polled_at > ABORT_POLL_SECONDS:
            self.requested = not self._should_continue()
            self._polled_at = time.monotonic()
        return self.requested
