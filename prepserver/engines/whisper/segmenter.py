"""Where speech is cut into segments: at pauses, and where there is none, at the quietest point.

Pure: it sees how likely each chunk of a recording is speech, and how loud it is, and never the
sound. The longer a segment has grown, the shorter a pause ends it, so that what is left to write
down when somebody stops speaking stays short.
"""

from collections.abc import Sequence

from msgspec import Struct

from prepserver.engines.whisper.voice_activity import CHUNK
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["ROLL", "Segmenter", "Span", "chunks"]

BEGINS = 0.5
"""Probability of speech from which a voice is there, the detector's own default."""
ENDS = 0.35
"""And below which it is gone again: Silero's default, 0.15 less."""


def chunks(seconds: float) -> int:
    """How many whole chunks of the detector that is."""
    return int(seconds * SAMPLE_RATE / CHUNK)


SHORTEST = 3
"""Chunks of voice; less is a click or a cough. The shortest "yes" has about eight."""
ROLL = round(0.3 * SAMPLE_RATE)
"""Samples kept before and after speech: recordings begin and end mid-breath."""
LONGEST_PAUSE, SHORTEST_PAUSE = chunks(0.6), chunks(0.2)
"""Without a voice: what ends the shortest segment, and what ends a long one."""
LONG = chunks(6.0)
"""From this length on a segment ends with the shortest pause. Half of it or less asks for the
longest: words need some others around them to be heard right."""
LONGEST = chunks(12.0)
"""Speech without a pause is cut here at the latest. Whisper could look at 30 s together, but what
is left to be heard when somebody stops is what they wait for."""
HUSH = chunks(0.16)
"""What is averaged to find the quietest point."""


class Span(Struct, frozen=True, kw_only=True):
    """A part of a recording in which somebody speaks. Positions in samples from its beginning."""

    begin: int
    end: int
    """The sample after the last."""
    voiced: int
    """The end of the last chunk with a voice. What is between it and `end` is breath."""


class Segmenter:
    """Takes one recording, chunk by chunk, and gives back the spans that are finished."""

    def __init__(self) -> None:
        self._count = 0
        self._free = 0
        """The end of the voice in the span before. The breath between two spans belongs to both:
        one ends with it, the other begins with it."""
        self._first: int | None = None
        """The chunk in which the voice of the open span begins."""
        self._last = 0
        """The chunk after the last one with a voice."""
        self._speaking = False
        self._run = 0
        """The chunk in which the present run of voice began."""
        self._strong = 0
        """Chunks of that run that are surely voice."""
        self._levels: list[float] = []
        """Of the open span, from `_first`."""

    @property
    def position(self) -> int:
        """Samples taken so far."""
        return self._count * CHUNK

    @property
    def settled(self) -> int:
        """Samples before which nothing is needed any more, apart from finished spans."""
        if self._first is not None:
            return self._begin
        begins = self._run if self._speaking else self._count
        return max(self._free, begins * CHUNK - ROLL)

    @property
    def open(self) -> Span | None:
        """The span that is being spoken, as far as it was heard."""
        if self._first is None:
            return None
        voiced = self._last * CHUNK
        return Span(begin=self._begin, end=min(self.position, voiced + ROLL), voiced=voiced)

    def add(self, probability: float, level: float) -> Span | None:
        """Take the next chunk; a span if that ends one."""
        number = self._count
        self._count += 1
        if self._speaking and probability < ENDS:
            self._speaking = False
        elif not self._speaking and probability >= BEGINS:
            self._speaking, self._run, self._strong = True, number, 0
        if self._speaking:
            self._strong += probability >= BEGINS
        if self._first is not None:
            self._levels.append(level)
        if self._speaking and self._strong >= SHORTEST:
            if self._first is None:
                self._first = self._run
                self._levels = [level] * (self._count - self._run)
            self._last = self._count
        if self._first is None:
            return None
        if not self._speaking and self._count - self._last >= _patience(self._last - self._first):
            return self._close()
        if self._count - self._first >= LONGEST:
            return self._cut(self._first)
        return None

    def end(self, length: int) -> Span | None:
        """The recording is over, after `length` samples; the rest of it, if there is speech."""
        span = self.open
        self._first, self._free = None, length
        return (
            None
            if span is None
            else Span(
                begin=span.begin,
                end=min(length, span.voiced + ROLL),
                voiced=min(length, span.voiced),
            )
        )

    @property
    def _begin(self) -> int:
        assert self._first is not None
        return max(self._free, self._first * CHUNK - ROLL)

    def _close(self) -> Span | None:
        span = self.open
        assert span is not None
        self._first, self._free = None, span.voiced
        return span

    def _cut(self, first: int) -> Span:
        """Where it was quietest in the second half; the rest is the beginning of the next."""
        half = LONGEST // 2
        cut = first + half + quietest(self._levels[half : self._last - first], HUSH)
        span = Span(begin=self._begin, end=cut * CHUNK, voiced=cut * CHUNK)
        self._levels = self._levels[cut - first :]
        self._first, self._free = cut, cut * CHUNK
        return span


def _patience(length: int) -> int:
    """Chunks without a voice that end a span of `length` chunks."""
    grown = min(1.0, max(0.0, 2 * length / LONG - 1))
    return round(LONGEST_PAUSE + (SHORTEST_PAUSE - LONGEST_PAUSE) * grown)


def quietest(levels: Sequence[float], width: int) -> int:
    """The middle of the `width` neighbours whose sum is least; of equals, the last."""
    sums = [sum(levels[n : n + width]) for n in range(max(1, len(levels) - width + 1))]
    least = min(sums)
    return len(sums) - 1 - sums[::-1].index(least) + width // 2
