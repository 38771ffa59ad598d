"""Segmentation of a recording into spans, at pauses or, in long speech, at the quietest point.

The segmenter is pure: it sees the probability of speech and the loudness of each chunk, never the
audio. The longer a span is, the shorter the pause that ends it, so that little remains to be
transcribed when the speaker stops.
"""

from collections.abc import Sequence

from msgspec import Struct

from prepserver.engines.whisper.voice_activity import CHUNK
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["PADDING", "Segmenter", "Span"]

START_THRESHOLD = 0.5
"""Minimum probability at which speech starts; the value is Silero's default."""
END_THRESHOLD = 0.35
"""Probability below which speech ends; the value is Silero's default, 0.15 below the start
threshold."""


def _to_chunks(seconds: float) -> int:
    """Return the number of complete chunks in a duration given in seconds."""
    return int(seconds * SAMPLE_RATE / CHUNK)


MIN_SPEECH = 3
"""Minimum number of chunks of speech in a span. Fewer chunks are a click or a cough; the shortest
"yes" has about eight chunks."""
PADDING = round(0.3 * SAMPLE_RATE)
"""Maximum number of samples kept before and after speech, so that the quiet beginnings and ends of
words are kept."""
MAX_SILENCE_WINDOW, MIN_SILENCE_WINDOW = _to_chunks(0.8), _to_chunks(0.3)
"""Numbers of silent chunks that end a short span and a long span, respectively. Shorter pauses
occur within sentences, whose parts are recognised worse apart."""
LONG_SPAN = _to_chunks(9.0)
"""Number of chunks of speech from which the minimum silence window applies. Up to half of this
number, the maximum silence window applies, because words need some context to be recognised
correctly."""
MAX_SPAN = _to_chunks(12.0)
"""Maximum number of chunks in a span; longer speech without a pause is split. Whisper could process
30 s at once, but a speaker who has stopped must wait until the last span is transcribed."""
LOUDNESS_WINDOW = _to_chunks(0.16)
"""Number of chunks over which the loudness is averaged to find the quietest point."""


class Span(Struct, frozen=True, kw_only=True):
    """Stretch of speech. Positions count samples from the beginning of the recording."""

    begin: int
    end: int
    """Position after the last sample of the span."""
    speech_end: int
    """Position after the last chunk with speech. The samples from this position to `end` are
    padding."""


class Segmenter:
    """Segmenter that divides one recording into spans, chunk by chunk."""

    def __init__(self) -> None:
        self._count = 0
        """Number of chunks added so far."""
        self._previous_end = 0
        """Position, in samples, where the previous span's speech ended. The silence between two
        spans may be part of the padding of both."""
        self._first: int | None = None
        """Index of the chunk in which the open span's speech begins; None while no span is open."""
        self._last = 0
        """Index of the chunk after the last chunk with speech."""
        self._in_speech = False
        self._run_first = 0
        """Index of the chunk in which the current run of speech began."""
        self._run_speech = 0
        """Number of chunks in the current run of speech that reach the start threshold."""
        self._levels: list[float] = []
        """Loudness of each chunk of the open span, beginning with the chunk `_first`."""

    @property
    def position(self) -> int:
        """Number of samples in the chunks added so far."""
        return self._count * CHUNK

    @property
    def next_begin(self) -> int:
        """Position, in samples, before which neither the open span nor a later span begins. Earlier
        samples are needed for finished spans only."""
        if self._first is not None:
            return self._span_begin
        first = self._run_first if self._in_speech else self._count
        return max(self._previous_end, first * CHUNK - PADDING)

    @property
    def open_span(self) -> Span | None:
        """Span in progress, up to the current position; None while no span is open."""
        if self._first is None:
            return None
        speech_end = self._last * CHUNK
        return Span(
            begin=self._span_begin,
            end=min(self.position, speech_end + PADDING),
            speech_end=speech_end,
        )

    def add_chunk(self, probability: float, level: float) -> Span | None:
        """Add the next chunk. Return the span that the chunk finishes, or None if the chunk
        finishes no span."""
        number = self._count
        self._count += 1
        if self._in_speech and probability < END_THRESHOLD:
            self._in_speech = False
        elif not self._in_speech and probability >= START_THRESHOLD:
            self._in_speech, self._run_first, self._run_speech = True, number, 0
        if self._in_speech:
            self._run_speech += probability >= START_THRESHOLD
        if self._first is not None:
            self._levels.append(level)
        if self._in_speech and self._run_speech >= MIN_SPEECH:
            if self._first is None:
                self._first = self._run_first
                self._levels = [level] * (self._count - self._run_first)
            self._last = self._count
        if self._first is None:
            return None
        silence = self._count - self._last
        if not self._in_speech and silence >= _silence_window(self._last - self._first):
            return self._finish_span()
        if self._count - self._first >= MAX_SPAN:
            return self._split_span(self._first)
        return None

    def finish(self, length: int) -> Span | None:
        """End the recording after `length` samples. Return the span that was open, or None if no
        span was open."""
        span = self.open_span
        self._first, self._previous_end = None, length
        if span is None:
            return None
        return Span(
            begin=span.begin,
            end=min(length, span.speech_end + PADDING),
            speech_end=min(length, span.speech_end),
        )

    @property
    def _span_begin(self) -> int:
        assert self._first is not None
        return max(self._previous_end, self._first * CHUNK - PADDING)

    def _finish_span(self) -> Span:
        span = self.open_span
        assert span is not None
        self._first, self._previous_end = None, span.speech_end
        return span

    def _split_span(self, first: int) -> Span:
        """Split the open span at the quietest point of its second half. Return the first part."""
        half = MAX_SPAN // 2
        cut = first + half + find_quietest(self._levels[half : self._last - first], LOUDNESS_WINDOW)
        span = Span(begin=self._span_begin, end=cut * CHUNK, speech_end=cut * CHUNK)
        self._levels = self._levels[cut - first :]
        self._first, self._previous_end = cut, cut * CHUNK
        return span


def _silence_window(length: int) -> int:
    """Return the number of silent chunks that end a span with `length` chunks of speech."""
    growth = min(1.0, max(0.0, 2 * length / LONG_SPAN - 1))
    return round(MAX_SILENCE_WINDOW + (MIN_SILENCE_WINDOW - MAX_SILENCE_WINDOW) * growth)


def find_quietest(levels: Sequence[float], width: int) -> int:
    """Return the middle index of the quietest window of `width` levels.

    If several windows are equally quiet, the last one is chosen.
    """
    sums = [sum(levels[n : n + width]) for n in range(max(1, len(levels) - width + 1))]
    smallest = min(sums)
    return len(sums) - 1 - sums[::-1].index(smallest) + width // 2
