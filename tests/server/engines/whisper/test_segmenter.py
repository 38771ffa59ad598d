"""Speech is cut at pauses, shorter ones the longer it lasts, and never goes on without end."""

import itertools

import pytest

from prepserver.engines.whisper.segmenter import LONGEST, ROLL, Segmenter, Span, quietest
from prepserver.engines.whisper.voice_activity import CHUNK
from prepserver.wire.protocol import SAMPLE_RATE

CHUNKS_A_SECOND = SAMPLE_RATE / CHUNK

Run = tuple[float, float]
"""Seconds, and the probability of speech in them."""


def fed(segmenter: Segmenter, *runs: Run, level: float = 0.1) -> list[Span]:
    """The spans that end while it is fed."""
    found = []
    for seconds, probability in runs:
        for _ in range(round(seconds * CHUNKS_A_SECOND)):
            span = segmenter.add(probability, level)
            if span is not None:
                found.append(span)
    return found


def cut(*runs: Run) -> list[tuple[float, float]]:
    """All spans of a recording, in seconds, to a tenth."""
    segmenter = Segmenter()
    spans = fed(segmenter, *runs)
    rest = segmenter.end(segmenter.position)
    return [
        (round(span.begin / SAMPLE_RATE, 1), round(span.end / SAMPLE_RATE, 1))
        for span in (*spans, *([rest] if rest is not None else []))
    ]


def test_speech_keeps_a_little_of_what_is_around_it() -> None:
    """0.3 s before and after, for breath and the end of the last consonant."""
    assert cut((2, 0.0), (1, 0.9), (2, 0.0)) == [(1.7, 3.3)]


def test_a_recording_that_begins_and_ends_mid_word_is_not_cut_further() -> None:
    """There is no more to keep than there is."""
    assert cut((1, 0.9)) == [(0.0, 1.0)]


def test_nothing_was_said() -> None:
    """Silence has no spans, and neither has a recording without a sample."""
    assert cut((5, 0.0)) == []
    assert Segmenter().end(0) is None


def test_a_short_segment_waits_for_a_long_pause() -> None:
    """Half a second of thought after three words does not part them from the rest."""
    assert cut((1, 0.9), (0.5, 0.0), (1, 0.9)) == [(0.0, 2.5)]
    assert cut((1, 0.9), (1.5, 0.0), (1, 0.9)) == [(0.0, 1.3), (2.2, 3.5)]


def test_a_long_segment_ends_at_a_short_pause() -> None:
    """After ten seconds the space between two sentences is enough."""
    assert len(cut((10, 0.9), (0.3, 0.0), (10, 0.9))) == 2


def test_breath_between_two_segments_belongs_to_both() -> None:
    """A short pause is the end of one and the beginning of the other, and no voice is in both."""
    segmenter = Segmenter()
    (first,) = fed(segmenter, (10, 0.9), (0.3, 0.0), (2, 0.9))
    second = segmenter.open
    assert second is not None
    assert first.voiced <= second.begin < first.end
    assert second.begin >= round(10.3 * SAMPLE_RATE) - ROLL - CHUNK


def test_a_click_is_no_speech() -> None:
    """Two chunks are too short for a word, alone and behind one."""
    click = (2 / CHUNKS_A_SECOND, 0.9)
    assert cut((1, 0.0), click, (1, 0.0)) == []
    assert cut((1, 0.9), (2, 0.0), click, (2, 0.0)) == [(0.0, 1.3)]


def test_a_voice_that_wavers_is_still_there() -> None:
    """Once begun, it ends only well below where it began."""
    assert cut((1, 0.0), (0.5, 0.9), (1, 0.4), (0.5, 0.9), (1, 0.0)) == [(0.7, 3.3)]
    assert cut((1, 0.0), (1, 0.4), (1, 0.0)) == []


def test_what_is_open_grows_with_what_is_said() -> None:
    """It is there as soon as a voice is sure, and gone when the span is finished."""
    segmenter = Segmenter()
    fed(segmenter, (1, 0.0))
    assert segmenter.open is None
    fed(segmenter, (0.5, 0.9))
    early = segmenter.open
    fed(segmenter, (0.5, 0.9))
    late = segmenter.open
    assert early is not None
    assert late is not None
    assert (early.begin, early.voiced < late.voiced) == (late.begin, True)
    assert late.voiced == late.end == segmenter.position
    assert len(fed(segmenter, (1, 0.0))) == 1
    assert segmenter.open is None


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    """Nearly a minute in one breath: no segment longer than it may be, nothing lost between."""
    segmenter = Segmenter()
    spans = fed(segmenter, (9, 0.9))
    spans += fed(segmenter, (0.2, 0.9), level=0.01)
    spans += fed(segmenter, (40, 0.9))
    rest = segmenter.end(segmenter.position)
    assert rest is not None
    spans.append(rest)
    assert 9 * SAMPLE_RATE <= spans[0].end <= 9.2 * SAMPLE_RATE
    assert all((span.end - span.begin) / CHUNK <= LONGEST for span in spans)
    assert all(a.end == b.begin for a, b in itertools.pairwise(spans))
    assert (spans[0].begin, spans[-1].end) == (0, segmenter.position)


def test_what_is_settled_is_never_asked_for_again() -> None:
    """No later span begins before it, whatever comes."""
    segmenter = Segmenter()
    settled = 0
    for run in ((1, 0.0), (0.06, 0.9), (3, 0.0), (10, 0.9), (0.3, 0.0), (30, 0.9), (2, 0.4)):
        for span in fed(segmenter, run):
            assert span.begin >= settled
        assert segmenter.settled >= settled
        settled = segmenter.settled
    rest = segmenter.end(segmenter.position)
    assert rest is None or rest.begin >= settled


def test_silence_is_settled_but_for_a_breath() -> None:
    """An hour of silence keeps a third of a second."""
    segmenter = Segmenter()
    fed(segmenter, (100, 0.0))
    assert segmenter.position - segmenter.settled == ROLL


@pytest.mark.parametrize(
    ("levels", "width", "where"),
    [([3, 1, 2], 1, 1), ([1, 1, 5, 1, 1], 2, 4), ([5, 0, 5, 1, 1, 1, 5], 3, 4), ([7], 5, 2)],
)
def test_the_quietest_point(levels: list[float], width: int, where: int) -> None:
    """A hush that lasts counts, not a single dip; of equals the later."""
    assert quietest(levels, width) == where
