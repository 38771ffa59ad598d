"""Loads the ears, after a look at the file that no native code should have to survive."""

import os
from pathlib import Path

from prepserver.ai.whisper.binding import Ears, unloadable
from prepserver.ai.whisper.options import WhisperOptions

__all__ = ["loaded"]

GGML = b"lmgg"
"""How a whisper.cpp model begins."""
SMALLEST = 2_000_000
"""Bytes. A file that ends before its first weights is less, and whisper.cpp takes it for a model
that was made for its own tests."""


def loaded(options: WhisperOptions) -> Ears:
    """Raises InferenceError, code `model_not_loaded`."""
    path = Path(options.path)
    if not path.is_file():
        raise unloadable(
            f"There is no model file {path}. Pull one with `prep-server models pull starter`."
        )
    with path.open("rb") as file:
        if file.read(len(GGML)) != GGML:
            raise unloadable(f"The file {path} is not a ggml model of Whisper.")
    if path.stat().st_size < SMALLEST:
        raise unloadable(f"The file {path} was cut short: it has no weights. Fetch it again.")
    return _ears(options)


def _ears(options: WhisperOptions) -> Ears:
    threads = options.n_threads or _processors()
    # Each brings its own native library with it: only one of them may be loaded.
    if options.binding == "pywhispercpp":
        from prepserver.ai.whisper.pywhispercpp_ears import PywhispercppEars

        return PywhispercppEars(options.path, threads)
    try:
        from prepserver.ai.whisper.whispercpp_ears import WhispercppEars
    except ImportError as error:
        raise unloadable(
            "The package whispercpp is not installed. It exists for Python 3.11 and earlier: "
            "pip install 'prep-interview[whispercpp]'. Or use the default, "
            "--stt-engine pywhispercpp."
        ) from error
    return WhispercppEars(options.path, threads)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
