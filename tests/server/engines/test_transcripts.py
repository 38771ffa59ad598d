"""Hallucination filter, which drops invented segments with a reason and keeps speech."""

import pytest

from prepserver.engines.transcripts import (
    MIN_PROBABILITY,
    RawSegment,
    confidence,
    estimate_word_times,
    filter_hallucinations,
    geometric_mean,
    is_repetitive,
    strip_annotations,
)
from prepserver.engines.types import Word


def raw_segment(text: str, probability: float = 0.9, start: float = 0.0) -> RawSegment:
    return RawSegment(start, start + 1.0, text, probability)


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        (" [BLANK_AUDIO]", ""),
        ("(music)", ""),
        ("*coughs* I agree", "I agree"),
        ("♪ la la la ♪", ""),
        (" I [inaudible] would  add an index.", "I would add an index."),
        ("f(x) is O(n)", "f is O"),
    ],
)
def test_annotations_are_removed(text: str, speech: str) -> None:
    """Text between brackets, asterisks or musical notes is removed, because such text describes a
    sound."""
    assert strip_annotations(text) == speech


@pytest.mark.parametrize(
    "text",
    [
        "so so so so so so so so",
        "Thank you. Thank you. Thank you. Thank you. Thank you.",
        "I think we should go. " * 6,
        "and we shipped it on a Monday and we shipped it on a Monday " * 4,
        "Well, the the the the the the the the the the thing",
    ],
)
def test_a_decoder_loop_is_repetitive(text: str) -> None:
    """A text is repetitive if a repeated phrase fills most of it."""
    assert is_repetitive(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "No, no, no, no.",
        "It was very, very, very important to us.",
        "We tested it, we deployed it, we tested it again, and we deployed it again.",
        "the more you test the more you know the more you ship",
        "In my last project I led a team of four engineers to migrate our payment service from a "
        "monolith to microservices. We started with the ledger, because it had the clearest "
        "boundary, and we ran both systems side by side for six weeks.",
    ],
)
def test_ordinary_speech_is_not_repetitive(text: str) -> None:
    """Speech with emphasis, stuttering or parallel clauses is not repetitive."""
    assert not is_repetitive(text)


def test_each_dropped_segment_has_its_reason() -> None:
    """Each dropped segment has the reason silence, unlikely or repetition; kept and dropped
    segments stay in order."""
    kept, dropped = filter_hallucinations(
        [
            raw_segment(" I would add an index.", start=0),
            raw_segment("[BLANK_AUDIO]", start=1),
            raw_segment("Thanks for watching!", MIN_PROBABILITY - 0.01, start=2),
            raw_segment("on on on on on on on", start=3),
            raw_segment(" On the identifier.", MIN_PROBABILITY, start=4),
        ]
    )
    assert [segment.text for segment in kept] == ["I would add an index.", "On the identifier."]
    assert [(segment.start, segment.text, segment.drop_reason) for segment in dropped] == [
        (1, "[BLANK_AUDIO]", "silence"),
        (2, "Thanks for watching!", "unlikely"),
        (3, "on on on on on on on", "repetition"),
    ]
    assert all(segment.drop_reason == "" for segment in kept)


def test_a_repeated_sentence_is_dropped_and_a_repeated_word_is_kept() -> None:
    """A segment that repeats the previous segment is dropped unless it has only one or two
    words."""
    kept, dropped = filter_hallucinations(
        [raw_segment("We shipped on Monday."), raw_segment("we shipped on Monday")]
    )
    assert (len(kept), dropped[0].drop_reason) == (1, "repetition")
    kept, dropped = filter_hallucinations([raw_segment("Yes."), raw_segment("Yes.")])
    assert (len(kept), len(dropped)) == (2, 0)


def test_words_without_times_share_the_time_of_their_segment() -> None:
    """Words without times share their segment's time in proportion to their lengths."""
    assert estimate_word_times("to scale", 1.0, 8.0) == (
        Word(start=1.0, end=3.0, text="to"),
        Word(start=3.0, end=8.0, text="scale"),
    )
    assert estimate_word_times("", 1.0, 2.0) == ()


def test_the_mean_of_no_probabilities_is_one() -> None:
    """The geometric mean of no probabilities is 1; a probability of 0 gives a small mean above
    0."""
    assert geometric_mean([]) == 1.0
    assert geometric_mean([0.5, 0.125]) == pytest.approx(0.25)
    assert 0.0 < geometric_mean([0.0, 1.0]) < 0.001


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(speaking in foreign language)", "unintelligible"),
        ("[SPEAKING SPANISH]", "unintelligible"),
        (">> [INAUDIBLE]", "unintelligible"),
        ("(crowd chatter)", "unintelligible"),
        ("*people talking*", "unintelligible"),
        ("[BLANK_AUDIO]", "silence"),
        ("(upbeat music)", "silence"),
        ("[ Silence ]", "silence"),
        ("...", "silence"),
        ("", "silence"),
        ("I speak French (laughs)", ""),
    ],
)
def test_described_speech_is_not_silence(text: str, reason: str) -> None:
    """A description of speech is told from a description of other sounds."""
    kept, dropped = filter_hallucinations([raw_segment(text)])
    assert [segment.drop_reason for segment in (*kept, *dropped)] == [reason]


def test_sampled_text_is_a_guess() -> None:
    """Text that was decoded at a raised temperature has a probability of one half at most, and is
    kept."""
    ((segment,), dropped) = filter_hallucinations([RawSegment(0.0, 1.0, "Well.", 0.98, True)])
    assert (segment.probability, dropped) == (0.5, ())


def test_the_confidence_covers_kept_and_dropped_speech() -> None:
    """Dropped speech lowers the confidence in proportion to its length; silence does not count, and
    a long loop counts no more than a sentence."""

    def measure(*segments: RawSegment) -> float:
        kept, dropped = filter_hallucinations(segments)
        return confidence([*kept, *dropped])

    good = raw_segment("a good sentence of words")
    assert measure() == measure(raw_segment("[Music]", 0.1)) == 1.0
    assert measure(good) == measure(good, raw_segment("[Music]", 0.1)) == pytest.approx(0.9)
    half = measure(good, raw_segment("b other sentence of noise"[:24], 0.1))
    assert half == pytest.approx(0.3)
    assert measure(raw_segment("(speaking in foreign language)", 0.9)) == pytest.approx(0.2)
    long = raw_segment(
        "We began with the ledger because its boundary was the clearest, ran both systems side by "
        "side for six weeks, and compared every booking at night."
    )
    assert measure(long, raw_segment("no " * 500, 0.99)) > 0.6
