"""Segmenter, which splits speech at pauses: the longer a span, the shorter the pause that ends
it."""

import itertools

import pytest

from prepserver.engines.whisper.segmenter import (
    MAX_SPAN,
    PADDING,
    Segmenter,
    Span,
    find_quietest,
)
from prepserver.engines.whisper.voice_activity import CHUNK
from prepserver.wire.protocol import SAMPLE_RATE

CHUNKS_PER_SECOND = SAMPLE_RATE / CHUNK

Run = tuple[float, float]
"""Duration in seconds, and the probability of speech during that time."""


def add_runs(segmenter: Segmenter, *runs: Run, level: float = 0.1) -> list[Span]:
    """Add the chunks of `runs` to a segmenter, and return the spans that these chunks finish."""
    spans = []
    for seconds, probability in runs:
        for _ in range(round(seconds * CHUNKS_PER_SECOND)):
            span = segmenter.add_chunk(probability, level)
            if span is not None:
                spans.append(span)
    return spans


def segment(*runs: Run) -> list[tuple[float, float]]:
    """Return the beginning and end of each span of a recording, in seconds rounded to tenths."""
    segmenter = Segmenter()
    spans = add_runs(segmenter, *runs)
    rest = segmenter.finish(segmenter.position)
    return [
        (round(span.begin / SAMPLE_RATE, 1), round(span.end / SAMPLE_RATE, 1))
        for span in (*spans, *([rest] if rest is not None else []))
    ]


def test_a_span_is_padded() -> None:
    """A span includes 0.3 s before and after its speech, for breath and final consonants."""
    assert segment((2, 0.0), (1, 0.9), (2, 0.0)) == [(1.7, 3.3)]


def test_padding_ends_at_the_limits_of_the_recording() -> None:
    """Padding does not extend a span beyond the beginning or the end of the recording."""
    assert segment((1, 0.9)) == [(0.0, 1.0)]


def test_silence_gives_no_spans() -> None:
    """Neither silence nor an empty recording gives a span."""
    assert segment((5, 0.0)) == []
    assert Segmenter().finish(0) is None


def test_a_short_span_ends_at_a_long_pause_only() -> None:
    """A pause of 0.7 s does not end a short span; a pause of 1.5 s does."""
    assert segment((1, 0.9), (0.7, 0.0), (1, 0.9)) == [(0.0, 2.7)]
    assert segment((1, 0.9), (1.5, 0.0), (1, 0.9)) == [(0.0, 1.3), (2.2, 3.5)]


def test_a_long_span_ends_at_a_short_pause() -> None:
    """After ten seconds of speech, a pause of 0.3 s ends a span."""
    assert len(segment((10, 0.9), (0.3, 0.0), (10, 0.9))) == 2


def test_two_spans_share_a_short_pause_as_padding() -> None:
    """Two adjacent spans overlap in the short pause between them, never in speech."""
    segmenter = Segmenter()
    (first,) = add_runs(segmenter, (10, 0.9), (0.3, 0.0), (2, 0.9))
    second = segmenter.open_span
    assert second is not None
    assert first.speech_end <= second.begin < first.end
    assert second.begin >= round(10.3 * SAMPLE_RATE) - PADDING - CHUNK


def test_a_click_is_not_speech() -> None:
    """A sound of two chunks, alone or after a span, is too short to count as speech."""
    click = (2 / CHUNKS_PER_SECOND, 0.9)
    assert segment((1, 0.0), click, (1, 0.0)) == []
    assert segment((1, 0.9), (2, 0.0), click, (2, 0.0)) == [(0.0, 1.3)]


def test_speech_ends_at_a_lower_probability_than_it_starts() -> None:
    """A probability between the two thresholds continues speech but does not start it."""
    assert segment((1, 0.0), (0.5, 0.9), (1, 0.4), (0.5, 0.9), (1, 0.0)) == [(0.7, 3.3)]
    assert segment((1, 0.0), (1, 0.4), (1, 0.0)) == []


def test_the_open_span_grows_with_the_speech() -> None:
    """The open span grows during speech; before speech and after a finished span, there is no open
    span."""
    segmenter = Segmenter()
    add_runs(segmenter, (1, 0.0))
    assert segmenter.open_span is None
    add_runs(segmenter, (0.5, 0.9))
    early = segmenter.open_span
    add_runs(segmenter, (0.5, 0.9))
    late = segmenter.open_span
    assert early is not None
    assert late is not None
    assert (early.begin, early.speech_end < late.speech_end) == (late.begin, True)
    assert late.speech_end == late.end == segmenter.position
    assert len(add_runs(segmenter, (1, 0.0))) == 1
    assert segmenter.open_span is None


def test_speech_without_a_pause_is_split_at_its_quietest_point() -> None:
    """Speech without a pause is split at its quietest point, into adjacent spans of at most
    `MAX_SPAN` chunks."""
    segmenter = Segmenter()
    spans = add_runs(segmenter, (9, 0.9))
    spans += add_runs(segmenter, (0.2, 0.9), level=0.01)
    spans += add_runs(segmenter, (40, 0.9))
    rest = segmenter.finish(segmenter.position)
    assert rest is not None
    spans.append(rest)
    assert 9 * SAMPLE_RATE <= spans[0].end <= 9.2 * SAMPLE_RATE
    assert all((span.end - span.begin) / CHUNK <= MAX_SPAN for span in spans)
    assert all(a.end == b.begin for a, b in itertools.pairwise(spans))
    assert (spans[0].begin, spans[-1].end) == (0, segmenter.position)


def test_no_later_span_begins_before_next_begin() -> None:
    """No later span begins before `next_begin`, which never decreases."""
    segmenter = Segmenter()
    next_begin = 0
    for run in ((1, 0.0), (0.06, 0.9), (3, 0.0), (10, 0.9), (0.3, 0.0), (30, 0.9), (2, 0.4)):
        for span in add_runs(segmenter, run):
            assert span.begin >= next_begin
        assert segmenter.next_begin >= next_begin
        next_begin = segmenter.next_begin
    rest = segmenter.finish(segmenter.position)
    assert rest is None or rest.begin >= next_begin


def test_in_silence_only_the_padding_is_kept() -> None:
    """During silence, `next_begin` is 0.3 s before the current position."""
    segmenter = Segmenter()
    add_runs(segmenter, (100, 0.0))
    assert segmenter.position - segmenter.next_begin == PADDING


@pytest.mark.parametrize(
    ("levels", "width", "index"),
    [([3, 1, 2], 1, 1), ([1, 1, 5, 1, 1], 2, 4), ([5, 0, 5, 1, 1, 1, 5], 3, 4), ([7], 5, 2)],
)
def test_the_quietest_point_is_that_of_a_whole_window(
    levels: list[float], width: int, index: int
) -> None:
    """The quietest point is the middle of the quietest window, not the quietest chunk; of equally
    quiet windows, the last is chosen."""
    assert find_quietest(levels, width) == index
