"""Ears through pywhispercpp, a current whisper.cpp. Importing this loads the native library."""

import time
from typing import Any

import _pywhispercpp as lib
import numpy as np
from numpy.typing import NDArray

from prepserver.ai.child import Call
from prepserver.ai.whisper.binding import Heard, geometric_mean, unloadable
from prepserver.errors import InferenceError

__all__ = ["PywhispercppEars"]

ERROR = 4
"""ggml_log_level of errors, in this whisper.cpp."""
ALIVE_EVERY = 1.0
"""Seconds."""


class PywhispercppEars:
    """Implements `prepserver.ai.whisper.binding.Ears`."""

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
        self, call: Call, samples: NDArray[np.float32], *, vocabulary: str, context: int
    ) -> list[Heard]:
        params = self._params(vocabulary, context)
        lib.assign_abort_callback(params, _interruption(call))
        code = lib.whisper_full(self._context, params, samples, samples.size)
        if call.cancelled:
            return []
        if code != 0:
            raise InferenceError(
                f"The recording could not be transcribed (whisper_full gave {code}).",
                code="transcription_failed",
            )
        return [self._segment(n) for n in range(lib.whisper_full_n_segments(self._context))]

    def _params(self, vocabulary: str, context: int) -> Any:
        """Made anew for each recording, so that nothing of one is left for the next."""
        params = lib.whisper_full_default_params(
            lib.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY
        )
        params.n_threads = self._n_threads
        params.language = "en"
        params.no_context = True
        params.audio_ctx = context
        params.print_progress = False
        params.print_realtime = False
        params.print_timestamps = False
        if vocabulary:
            params.initial_prompt = vocabulary
            params.carry_initial_prompt = True
        return params

    def _segment(self, n: int) -> Heard:
        context = self._context
        probabilities = [
            lib.whisper_full_get_token_p(context, n, token)
            for token in range(lib.whisper_full_n_tokens(context, n))
            if lib.whisper_full_get_token_id(context, n, token) < self._end_of_text
        ]
        return Heard(
            start=lib.whisper_full_get_segment_t0(context, n) / 100,
            end=lib.whisper_full_get_segment_t1(context, n) / 100,
            text=lib.whisper_full_get_segment_text(context, n).decode("utf-8", "replace"),
            probability=geometric_mean(probabilities),
        )


def _interruption(call: Call) -> Any:
    """Asked many times a second whether to give up; says that work goes on meanwhile."""
    said = time.monotonic()

    def interrupted() -> bool:
        nonlocal said
        if time.monotonic() - said > ALIVE_EVERY:
            said = time.monotonic()
            call.alive()
        return call.cancelled

    return interrupted
