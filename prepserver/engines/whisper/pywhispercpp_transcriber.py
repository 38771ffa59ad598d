"""Ears through pywhispercpp, a current whisper.cpp. Importing this loads the native library."""

import time
from collections.abc import Callable
from typing import Any

import _pywhispercpp as lib
import numpy as np
from numpy.typing import NDArray

from prepserver.engines.whisper.timing import TimedToken, words
from prepserver.engines.whisper.transcriber import RawSegment, geometric_mean, unloadable
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["PywhispercppTranscriber"]

ERROR = 4
"""ggml_log_level of errors, in this whisper.cpp."""
ASKED_EVERY = 0.02
"""Seconds; whisper.cpp itself asks thousands of times in one."""
CENTISECONDS = 100
"""Whisper.cpp's times, in one second."""


class PywhispercppTranscriber:
    """Implements `prepserver.engines.whisper.transcriber.Ears`."""

    def __init__(self, path: str, n_threads: int) -> None:
        """Raises InferenceError, code `model_not_loaded`."""
        self._n_threads = n_threads
        errors: list[str] = []

        def listen(level: int, text: str, *_: Any) -> None:
            if level == ERROR:
                errors.append(text.strip())

        # The binding gives back a context even when there is none behind it, and touching that
        # one crashes: whether it loaded can only be learnt from what the library says.
        lib.whisper_log_set(listen)
        try:
            self._context = lib.whisper_init_from_file_with_params(
                path, lib.whisper_context_default_params()
            )
        except (ValueError, RuntimeError, MemoryError, IndexError) as error:
            errors.append(str(error))
        finally:
            lib.whisper_log_set(None)
        if errors:
            raise unloadable(
                f"The file {path} is not a model that whisper.cpp reads ({errors[0]})."
            )
        self._end_of_text = lib.whisper_token_eot(self._context)

    def hear(
        self,
        samples: NDArray[np.float32],
        *,
        vocabulary: str,
        context: int,
        patient: bool,
        proceed: Callable[[], bool],
    ) -> list[RawSegment] | None:
        params = self._params(vocabulary, context, patient)
        interruption = _Interruption(proceed)
        lib.assign_abort_callback(params, interruption)
        code = lib.whisper_full(self._context, params, samples, samples.size)
        if interruption.happened:
            return None
        if code != 0:
            raise InferenceError(
                f"The recording could not be transcribed (whisper_full gave {code}).",
                code=ErrorCode.TRANSCRIPTION_FAILED,
            )
        return [self._segment(n) for n in range(lib.whisper_full_n_segments(self._context))]

    def _params(self, vocabulary: str, context: int, patient: bool) -> Any:
        """Made anew for each recording, so that nothing of one is left for the next."""
        params = lib.whisper_full_default_params(
            lib.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY
        )
        params.n_threads = self._n_threads
        params.language = "en"
        params.no_context = True
        params.audio_ctx = context
        params.token_timestamps = True
        if not patient:
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
        spoken = [
            lib.whisper_full_get_token_data(context, n, token)
            for token in range(lib.whisper_full_n_tokens(context, n))
            if lib.whisper_full_get_token_id(context, n, token) < self._end_of_text
        ]
        return RawSegment(
            start=lib.whisper_full_get_segment_t0(context, n) / CENTISECONDS,
            end=lib.whisper_full_get_segment_t1(context, n) / CENTISECONDS,
            text=lib.whisper_full_get_segment_text(context, n).decode("utf-8", "replace"),
            probability=geometric_mean([token.p for token in spoken]),
            words=words(
                TimedToken(
                    lib.whisper_token_to_bytes(context, token.id),
                    token.t0 / CENTISECONDS,
                    token.t1 / CENTISECONDS,
                    token.p,
                )
                for token in spoken
            ),
        )


class _Interruption:
    """Asked for all the time whether to give up, it asks `proceed` now and then."""

    def __init__(self, proceed: Callable[[], bool]) -> None:
        self.happened = False
        self._proceed = proceed
        self._asked = time.monotonic()

    def __call__(self) -> bool:
        if not self.happened and time.monotonic() - self._asked > ASKED_EVERY:
            self.happened = not self._proceed()
            self._asked = time.monotonic()
        return self.happened
