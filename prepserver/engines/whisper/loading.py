"""Loads the ears, after a look at the file that no native code should have to survive."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prepserver.engines.hardware import usable_cores
from prepserver.engines.whisper.options import WhisperOptions
from prepserver.engines.whisper.transcriber import Transcriber, unloadable
from prepserver.models.ggml_check import InvalidGgml, validate_whisper

__all__ = ["loaded"]

GPUS = ("/dev/nvidiactl", "/dev/kfd")
SPARE = 2 << 30
"""Bytes of memory beside four times the model's file that loading it may take."""


def loaded(options: WhisperOptions) -> Transcriber:
    """Raises InferenceError, code `model_not_loaded`."""
    path = Path(options.path)
    if not path.is_file():
        raise unloadable(
            f"There is no model file {path}. Pull one with `prep-server models pull starter`."
        )
    try:
        validate_whisper(path)
    except InvalidGgml as error:
        raise unloadable(
            f"The file {path} is not a whole ggml model of Whisper: {error}. Fetch it again."
        ) from error
    except OSError as error:
        raise unloadable(f"The file {path} cannot be read: {error}.") from error
    with _bounded(4 * path.stat().st_size + SPARE):
        return _ears(options)


@contextmanager
def _bounded(more: int) -> Iterator[None]:
    """Lets this process take so many more bytes of memory, where the system can say so: the last
    resort against a file that looks whole and makes native code ask for the whole machine."""
    if not sys.platform.startswith("linux") or any(map(os.path.exists, GPUS)):
        # A library for a GPU reserves more addresses than there is memory.
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + more
    hard = before[1]
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _ears(options: WhisperOptions) -> Transcriber:
    threads = options.n_threads or usable_cores()
    # Each brings its own native library with it: only one of them may be loaded.
    if options.binding == "pywhispercpp":
        from prepserver.engines.whisper.pywhispercpp_transcriber import PywhispercppTranscriber

        return PywhispercppTranscriber(options.path, threads)
    try:
        from prepserver.engines.whisper.whispercpp_transcriber import WhispercppTranscriber
    except ImportError as error:
        raise unloadable(
            "The package whispercpp is not installed. It exists for Python 3.11 and earlier: "
            "pip install 'prep-interview[whispercpp]'. Or use the default, "
            "--stt-engine pywhispercpp."
        ) from error
    return WhispercppTranscriber(options.path, threads)
