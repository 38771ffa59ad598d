"""What is said in one span of a recording: a quick look first, a thorough one if that is doubtful.

Whisper looks at 30 s together, whatever it is given, unless told to look at less (`audio_ctx`).
That is several times quicker for a short span, and now and then loses its way.
"""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from prepserver.engines.transcripts import filter_hallucinations
from prepserver.engines.types import Segment
from prepserver.engines.whisper.transcriber import RawSegment, Transcriber
from prepserver.engines.whisper.voice_activity import scaled
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["SpanTranscriber", "TranscriptionResult"]

WINDOW = 30.0
"""Seconds that whisper looks at together."""
CONTEXT = 1_500
"""Positions of the encoder for a whole window: 50 a second."""
MARGIN = 64
"""Positions at least beyond the end of a short span, to keep its last words right."""
STEP = 256
"""Positions that whisper.cpp's fast attention works on together. What it is told to look at it
rounds up to these, and the room this makes holds what it heard before, of anybody: told a multiple,
it hears nothing of that, and the same every time."""
SHORTEST = round(1.1 * SAMPLE_RATE)
"""Samples; whisper.cpp hears nothing in less than a second."""

Piece = TypeVar("Piece", Segment, RawSegment)
"""What has a time, and words that have."""


class TranscriptionResult(Struct, frozen=True):
    """What was heard in a span, times in seconds from the beginning of the recording."""

    kept: tuple[Segment, ...]
    dropped: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.kept)

    def after(self, time: float) -> "TranscriptionResult":
        """With nothing before `time`: the breath between two spans belongs to both."""

        def place(seconds: float) -> float:
            return max(time, seconds)

        return TranscriptionResult(_placed(self.kept, place), _placed(self.dropped, place))

    @property
    def doubtful(self) -> bool:
        """Whether a thorough look might find more."""
        return bool(self.dropped) or not self.kept


class SpanTranscriber:
    """Hears spans through one pair of ears."""

    def __init__(self, ears: Transcriber) -> None:
        self._ears = ears

    def glance(
        self,
        samples: NDArray[np.int16],
        begin: int,
        vocabulary: str,
        proceed: Callable[[], bool],
    ) -> TranscriptionResult | None:
        """What a quick look finds in samples that begin at sample `begin` of the recording; None
        when `proceed` said no."""
        return self._look(samples, begin, vocabulary, proceed, thorough=False)

    def listen(
        self,
        samples: NDArray[np.int16],
        begin: int,
        vocabulary: str,
        proceed: Callable[[], bool],
    ) -> TranscriptionResult | None:
        """The same, and a thorough look where the quick one is doubtful."""
        quick = self.glance(samples, begin, vocabulary, proceed)
        if quick is None or not quick.doubtful:
            return quick
        return self._look(samples, begin, vocabulary, proceed, thorough=True)

    def _look(
        self,
        samples: NDArray[np.int16],
        begin: int,
        vocabulary: str,
        proceed: Callable[[], bool],
        *,
        thorough: bool,
    ) -> TranscriptionResult | None:
        padded = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
        needed = len(padded) / SAMPLE_RATE * CONTEXT / WINDOW + MARGIN
        context = math.ceil(needed / STEP) * STEP
        heard = self._ears.hear(
            scaled(padded),
            vocabulary=vocabulary,
            context=0 if thorough or context >= CONTEXT else context,
            patient=thorough,
            proceed=proceed,
        )
        if heard is None:
            return None
        start, end = begin / SAMPLE_RATE, (begin + len(samples)) / SAMPLE_RATE
        # In the recording, and none of it beyond the span.
        return TranscriptionResult(
            *filter_hallucinations(_placed(heard, lambda time: min(start + max(0.0, time), end)))
        )


def _placed(pieces: Iterable[Piece], place: Callable[[float], float]) -> tuple[Piece, ...]:
    """The same, and its words, at other times."""
    return tuple(
        structs.replace(
            each,
            start=place(each.start),
            end=place(each.end),
            words=tuple(
                structs.replace(word, start=place(word.start), end=place(word.end))
                for word in each.words
            ),
        )
        for each in pieces
    )
