"""The speech model's work on one recording, in the engine's own process."""

import os
from collections.abc import Generator
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from prepserver.ai.child import Call, Serial
from prepserver.ai.values import Segment, Speech
from prepserver.ai.whisper.binding import Ears, Heard, unloadable
from prepserver.ai.whisper.doubts import judge
from prepserver.ai.whisper.options import Loaded, Recording, WhisperOptions
from prepserver.ai.whisper.voice import Spliced, Voice
from prepserver.protocol import SAMPLE_RATE

__all__ = ["WhisperEngine", "load"]

GGML = b"lmgg"
"""How a whisper.cpp model begins."""
SMALLEST = 2_000_000
"""Bytes. A file that ends before its first weights is less, and whisper.cpp takes it for a model
that was made for its own tests."""
WINDOW = 30.0
"""Seconds that whisper looks at together."""
CONTEXT = 1_500
"""Positions of the encoder for a whole window: 50 a second."""
MARGIN = 128
"""Positions beyond the end of a short recording that keep its last words right."""
SHORTEST = round(1.1 * SAMPLE_RATE)
"""Samples; whisper.cpp hears nothing in less than a second."""
LONGEST_HINT = 600
"""Code points of vocabulary. Whisper reads at most 224 tokens of it, and the last ones."""


class WhisperEngine:
    """One recording at a time, on one context that is kept."""

    def __init__(self, ears: Ears, voice: Voice) -> None:
        self._ears = ears
        self._voice = voice

    def run(self, call: Call) -> Generator[Speech, None, None]:
        """One Speech. Raises InferenceError."""
        recording = msgspec.msgpack.decode(call.payload, type=Recording)
        samples: NDArray[np.int16] = np.frombuffer(recording.pcm, dtype="<i2")
        seconds = len(samples) / SAMPLE_RATE
        parts = self._voice.stretches(samples, lambda: _proceed(call))
        if call.cancelled:
            return
        if not parts:
            silence = Segment(start=0.0, end=seconds, text="", why_dropped="silence")
            yield Speech(text="", dropped=(silence,), seconds=seconds)
            return
        spliced = Spliced.of(samples, parts)
        kept, dropped = self._hear(call, spliced, _hint(recording.vocabulary))
        yield Speech(
            text=" ".join(segment.text for segment in kept),
            segments=kept,
            dropped=dropped,
            seconds=seconds,
        )

    def _hear(
        self, call: Call, spliced: Spliced, vocabulary: str
    ) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
        samples = spliced.samples
        if len(samples) < SHORTEST:
            samples = np.pad(samples, (0, SHORTEST - len(samples)))
        seconds = len(samples) / SAMPLE_RATE
        context = min(CONTEXT, int(seconds * CONTEXT / WINDOW) + MARGIN)
        heard = self._ears.hear(
            call, samples, vocabulary=vocabulary, context=context if context < CONTEXT else 0
        )
        kept, dropped = judge(_placed(each, spliced) for each in heard)
        if context < CONTEXT and (dropped or not kept) and not call.cancelled:
            # A short window is several times quicker, and now and then loses its way.
            heard = self._ears.hear(call, samples, vocabulary=vocabulary, context=0)
            kept, dropped = judge(_placed(each, spliced) for each in heard)
        return kept, dropped


def load(options: Raw) -> tuple[Loaded, Serial]:
    """Raises InferenceError, code `model_not_loaded`."""
    wanted = msgspec.msgpack.decode(options, type=WhisperOptions)
    path = Path(wanted.path)
    if not path.is_file():
        raise unloadable(
            f"There is no model file {path}. Pull one with `prep-server models pull starter`."
        )
    with path.open("rb") as file:
        if file.read(len(GGML)) != GGML:
            raise unloadable(f"The file {path} is not a ggml model of Whisper.")
    if path.stat().st_size < SMALLEST:
        raise unloadable(f"The file {path} was cut short: it has no weights. Fetch it again.")
    return Loaded(wanted.binding), Serial(WhisperEngine(_ears(wanted), Voice()).run)


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


def _proceed(call: Call) -> bool:
    call.alive()
    return not call.cancelled


def _hint(vocabulary: str) -> str:
    """Whole words of the vocabulary, as much as whisper reads."""
    hint = " ".join(vocabulary.split())
    return hint if len(hint) <= LONGEST_HINT else hint[:LONGEST_HINT].rpartition(" ")[0]


def _placed(heard: Heard, spliced: Spliced) -> Heard:
    return Heard(
        spliced.original(heard.start),
        spliced.original(heard.end),
        heard.text,
        heard.probability,
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
