"""Loading of the transcriber. The model file is validated first, because native code may crash on a
damaged file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prepserver.engines.hardware import usable_cores
from prepserver.engines.whisper.options import WhisperOptions
from prepserver.engines.whisper.transcriber import Transcriber, model_not_loaded
from prepserver.models.ggml_check import InvalidGgml, validate_whisper

__all__ = ["load_transcriber"]

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
HEADROOM = 2 << 30
"""Bytes of address space that loading may use beyond four times the size of the model file."""


def load_transcriber(options: WhisperOptions) -> Transcriber:
    """Validate and load the model file. Raises InferenceError, code `model_not_loaded`, if the
    model cannot be loaded."""
    path = Path(options.path)
    if not path.is_file():
        raise model_not_loaded(
            f"There is no model file {path}. Fetch one with `prep-server models pull starter`."
        )
    try:
        validate_whisper(path)
    except InvalidGgml as error:
        raise model_not_loaded(
            f"{path} is not a complete Whisper model in ggml format: {error}. Fetch it again."
        ) from error
    except OSError as error:
        raise model_not_loaded(
            f"Cannot read the model file {path}: {error.strerror}. Check its permissions."
        ) from error
    with _memory_limit(4 * path.stat().st_size + HEADROOM):
        return _open_binding(options)


@contextmanager
def _memory_limit(size: int) -> Iterator[None]:
    """Limit this process to `size` more bytes of address space within the `with` block.

    The limit applies only on Linux, and only if the machine has no GPU. The limit is the last
    defence against a damaged file that passes validation and makes native code allocate all of the
    machine's memory.
    """
    if not sys.platform.startswith("linux") or any(map(os.path.exists, GPU_DEVICES)):
        # GPU libraries reserve more address space than there is memory.
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + size
    hard = before[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _open_binding(options: WhisperOptions) -> Transcriber:
    threads = options.n_threads or usable_cores()
    # Each binding brings its own native library: only one of them may be loaded.
    if options.binding == "pywhispercpp":
        from prepserver.engines.whisper.pywhispercpp_transcriber import PywhispercppTranscriber

        return PywhispercppTranscriber(options.path, threads)
    try:
        from prepserver.engines.whisper.whispercpp_transcriber import WhispercppTranscriber
    except ImportError as error:
        raise model_not_loaded(
            "The package whispercpp is not installed. With Python 3.11 or earlier, install it with "
            "`pip install 'prep-interview[whispercpp]'`; otherwise use the default, "
            "--stt-engine pywhispercpp."
        ) from error
    return WhispercppTranscriber(options.path, threads)
