"""Transcription of one span: a fast pass, then full passes if the result needs one.

By default, whisper.cpp encodes a window of 30 s, however short the audio is. The fast pass limits
the encoder with `audio_ctx`. With a limited encoder, a short span is transcribed several times
faster, but recognition occasionally fails. If the text of the full pass is a loop, a last pass
samples other text at raised temperatures.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from prepserver.engines.gain import amplify
from prepserver.engines.transcripts import RawSegment, filter_hallucinations
from prepserver.engines.types import Segment
from prepserver.engines.whisper.transcriber import Transcriber
from prepserver.engines.whisper.voice_activity import to_float32
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["SpanTranscriber", "SpanTranscript"]

WINDOW_SECONDS = 30.0
"""Seconds of audio that Whisper processes at once."""
FULL_AUDIO_CTX = 1_500
"""Number of encoder positions in a whole window: 50 for each second of audio."""
FAST_MARGIN = 64
"""Minimum number of encoder positions beyond the end of a span, so that its last words are
recognised."""
CAREFUL_MARGIN = 320
"""The same if nobody waits for the text: one step more, with which fewer words are wrong."""
AUDIO_CTX_STEP = 256
"""Number of encoder positions that whisper.cpp's flash attention processes together. Flash
attention pads `audio_ctx` to a multiple of this number, and the padding holds data of earlier
calls, including calls for other speakers. An exact multiple needs no padding, which makes results
reproducible."""
MIN_SAMPLES = round(1.1 * SAMPLE_RATE)
"""Minimum number of samples passed to whisper.cpp, which recognises nothing in less than a second
of audio."""

Timed = TypeVar("Timed", Segment, RawSegment)
"""Type of the segments whose times are converted."""


class SpanTranscript(Struct, frozen=True):
    """Segments of a span. All times are in seconds from the beginning of the recording."""

    kept: tuple[Segment, ...]
    dropped: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.kept)

    def starting_at(self, time: float) -> "SpanTranscript":
        """Return a copy of the transcript in which all times are at least `time`, in seconds.

        Adjacent spans share the silence between them, so the times of their segments may overlap.
        """

        def clamp(seconds: float) -> float:
            return max(time, seconds)

        return SpanTranscript(_map_times(self.kept, clamp), _map_times(self.dropped, clamp))

    @property
    def loops(self) -> bool:
        """True if text was dropped because the decoder was caught in a loop."""
        return any(segment.drop_reason == "repetition" for segment in self.dropped)

    @property
    def needs_full_pass(self) -> bool:
        """True if segments were dropped or none were kept, so that a full pass might recognise
        more."""
        return bool(self.dropped) or not self.kept


class SpanTranscriber:
    """Object that transcribes spans with one `Transcriber`."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber

    @property
    def multilingual(self) -> bool:
        """True if the model knows languages other than English."""
        return self._transcriber.multilingual

    def detect_language(self, samples: NDArray[np.int16]) -> Mapping[str, float]:
        """Return the probability of each language that the model knows, by its ISO 639 code.

        Raises InferenceError if the detection fails.
        """
        padded, audio_ctx = _prepare(samples, FAST_MARGIN)
        return self._transcriber.detect_language(padded, audio_ctx=audio_ctx)

    def fast_pass(
        self,
        samples: NDArray[np.int16],
        begin: int,
        language: str,
        vocabulary: str,
        should_continue: Callable[[], bool],
    ) -> SpanTranscript | None:
        """Transcribe samples with an encoder window that is little longer than the samples.

        `begin` is the position of the first sample in the recording, and `language` an ISO 639
        code. Return None if the pass was stopped because `should_continue` returned False. Raises
        InferenceError if the transcription fails.
        """
        return self._run_pass(
            samples, begin, language, vocabulary, should_continue, margin=FAST_MARGIN
        )

    def transcribe(
        self,
        samples: NDArray[np.int16],
        begin: int,
        language: str,
        vocabulary: str,
        should_continue: Callable[[], bool],
        *,
        urgent: bool,
    ) -> SpanTranscript | None:
        """Transcribe samples with a limited window, then with full passes if the result needs them.

        `urgent` is True if the speaker waits for the text, so that the first pass is a fast one.
        The other arguments, the result and the errors have the same meaning as in `fast_pass`.
        """
        transcript = self._run_pass(
            samples,
            begin,
            language,
            vocabulary,
            should_continue,
            margin=FAST_MARGIN if urgent else CAREFUL_MARGIN,
        )
        for sampled in (False, True):
            if transcript is None or not (
                transcript.loops if sampled else transcript.needs_full_pass
            ):
                break
            transcript = self._run_pass(
                samples, begin, language, vocabulary, should_continue, sampled=sampled
            )
        return transcript

    def _run_pass(
        self,
        samples: NDArray[np.int16],
        begin: int,
        language: str,
        vocabulary: str,
        should_continue: Callable[[], bool],
        *,
        margin: int = FULL_AUDIO_CTX,
        sampled: bool = False,
    ) -> SpanTranscript | None:
        padded, audio_ctx = _prepare(samples, margin)
        raw_segments = self._transcriber.transcribe(
            padded,
            language=language,
            vocabulary=vocabulary,
            audio_ctx=audio_ctx,
            temperature_fallback=sampled,
            should_continue=should_continue,
        )
        if raw_segments is None:
            return None
        start, end = begin / SAMPLE_RATE, (begin + len(samples)) / SAMPLE_RATE

        def to_recording(time: float) -> float:
            return min(start + max(0.0, time), end)

        raw_segments = [structs.replace(segment, sampled=sampled) for segment in raw_segments]
        return SpanTranscript(*filter_hallucinations(_map_times(raw_segments, to_recording)))


def _prepare(samples: NDArray[np.int16], margin: int) -> tuple[NDArray[np.float32], int]:
    """Return samples that whisper.cpp accepts, and the number of encoder positions for them, with
    at least `margin` positions more than the samples need."""
    padded = np.pad(samples, (0, max(0, MIN_SAMPLES - len(samples))))
    needed = len(padded) / SAMPLE_RATE * FULL_AUDIO_CTX / WINDOW_SECONDS + margin
    audio_ctx = math.ceil(needed / AUDIO_CTX_STEP) * AUDIO_CTX_STEP
    return to_float32(amplify(padded)), 0 if audio_ctx >= FULL_AUDIO_CTX else audio_ctx


def _map_times(segments: Iterable[Timed], convert: Callable[[float], float]) -> tuple[Timed, ...]:
    """Return copies of the segments, with `convert` applied to all times, including the times of
    words."""
    return tuple(
        structs.replace(
            segment,
            start=convert(segment.start),
            end=convert(segment.end),
            words=tuple(
                structs.replace(word, start=convert(word.start), end=convert(word.end))
                for word in segment.words
            ),
        )
        for segment in segments
    )
