"""The engine's own rules, on ears that are acted: what is heard when, and who goes first."""

import itertools

import msgspec
import numpy as np
import pytest

from prepserver.engines.ipc.frames import DoneFrame, EventFrame, Reply, RequestFrame, encode_payload
from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.types import SpeechStats
from prepserver.engines.whisper.engine import WhisperEngine
from prepserver.engines.whisper.options import AudioChunk, GetSpeechStats
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.whisper.acting import (
    ActedEars,
    ActedVoice,
    Hand,
    Speaker,
    exhaust,
    live,
    pause,
    said,
    text,
)


def made(cost: float = 0.0) -> tuple[WhisperEngine, ActedEars, Hand]:
    clock = Hand()
    ears = ActedEars(clock, cost)
    return WhisperEngine(ears, ActedVoice, clock), ears, clock


def test_a_whole_recording_is_written_down_segment_by_segment() -> None:
    """Every word once, in order, with its time in the recording."""
    engine, ears, _ = made()
    speaker = Speaker(engine, whole=True)
    speaker.say(pause(1), said(1, 20), pause(2), said(21, 20), pause(1))
    speaker.stop()
    exhaust(engine)
    speech = speaker.speech
    assert speech.text == text(1, 40)
    assert len(speech.segments) == len(ears.heard) == 2
    words = [word for segment in speech.segments for word in segment.words]
    assert words[0].start == pytest.approx(1.0, abs=0.01)
    assert words[20].start == pytest.approx(1 + 20 * 0.32 + 2, abs=0.01)
    assert speech.seconds == pytest.approx(4 + 40 * 0.32)


def test_a_whole_recording_is_heard_the_same_however_it_arrives() -> None:
    """Piece by piece or at once: no look at half of it, and the same result every time."""
    speeches = []
    for pieces in (1, 7):
        engine, ears, _ = made()
        speaker = Speaker(engine, whole=True)
        for piece in np.array_split(np.concatenate([said(1, 20), pause(2), said(21, 3)]), pieces):
            speaker.say(piece)
            exhaust(engine)
        speaker.stop()
        exhaust(engine)
        assert len(ears.heard) == 2
        speeches.append(speaker.speech)
    assert speeches[0] == speeches[1]


def test_captions_grow_from_tentative_to_stable_to_final() -> None:
    """One pass says it, a second agrees, the end of the segment makes it final."""
    engine, _, clock = made(cost=0.01)
    speaker = Speaker(engine)
    live(engine, clock, [(speaker, np.concatenate([said(1, 8), pause(2), said(9, 4), pause(2)]))])
    captions = speaker.captions
    assert captions[0].interim.startswith(text(1, 1))
    assert captions[0].committed == captions[0].final == ""
    assert any(caption.committed.startswith(text(1, 2)) for caption in captions)
    assert any(caption.final == text(1, 8) for caption in captions)
    for before, after in itertools.pairwise(captions):
        assert after.final.startswith(before.final)
        assert after.seconds >= before.seconds
    assert speaker.speech.text == text(1, 12)


def test_a_pass_comes_with_every_new_word_or_two() -> None:
    """Two passes are never further apart than a second of speech while the machine keeps up."""
    engine, _, clock = made(cost=0.01)
    speaker = Speaker(engine)
    live(engine, clock, [(speaker, said(1, 30))])
    times = [0.0, *(caption.seconds for caption in speaker.captions)]
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.0


def test_what_was_heard_to_its_end_is_not_heard_again() -> None:
    """After a moment of silence the last pass is the result: at the stop nothing is left to do."""
    engine, ears, clock = made(cost=0.01)
    speaker = Speaker(engine)
    speaker.say(said(1, 6), pause(0.3))
    exhaust(engine)
    assert ears.heard[-1][:2] == (1, 6)
    looks, began = len(ears.heard), clock.now
    speaker.stop()
    exhaust(engine)
    assert (len(ears.heard), clock.now) == (looks, began)
    assert speaker.speech.text == text(1, 6)


def test_a_word_after_the_last_pass_is_heard() -> None:
    """A result is only used again when it is whole."""
    engine, _, _ = made()
    speaker = Speaker(engine)
    speaker.say(said(1, 6), pause(0.3))
    exhaust(engine)
    speaker.say(said(7, 1))
    speaker.stop()
    exhaust(engine)
    assert speaker.speech.text == text(1, 7)


def test_a_finished_segment_is_never_heard_again() -> None:
    """However long the rest goes on, each look begins behind it."""
    engine, ears, clock = made(cost=0.01)
    speaker = Speaker(engine)
    script = np.concatenate([said(1, 10), pause(1.5), said(11, 30), pause(1.5), said(41, 10)])
    live(engine, clock, [(speaker, script)])
    behind = [first for first, last, _ in ears.heard if last > 10]
    assert min(behind) == 11
    assert speaker.speech.text == text(1, 50)


def test_a_pass_that_the_end_overtakes_is_given_up() -> None:
    """Who stops within a pass waits for the last one only."""
    engine, ears, _ = made()
    speaker = Speaker(engine)

    def stops() -> None:
        ears.meanwhile = lambda: None
        speaker.say(said(5, 2))
        speaker.stop()

    ears.meanwhile = stops
    speaker.say(said(1, 4))
    exhaust(engine)
    assert ears.heard == [(1, 6, ears.heard[0][2])]
    assert speaker.speech.text == text(1, 6)


def test_a_pass_that_has_heard_all_is_not_given_up() -> None:
    """Silence behind it changes nothing: it is the transcript."""
    engine, ears, _ = made()
    speaker = Speaker(engine)

    def stops() -> None:
        ears.meanwhile = lambda: None
        speaker.say(pause(0.1))
        speaker.stop()

    speaker.say(said(1, 4), pause(0.25))
    ears.meanwhile = stops
    exhaust(engine)
    assert len(ears.heard) == 1
    assert speaker.speech.text == text(1, 4)


def test_doubts_are_looked_into_with_the_whole_window() -> None:
    """A short window that hears badly is not the last word; one that hears well is."""
    engine, ears, _ = made()
    ears.probability = lambda context: 0.1 if context else 0.8
    speaker = Speaker(engine)
    speaker.say(said(1, 5), pause(1))
    speaker.stop()
    exhaust(engine)
    assert [context == 0 for _, _, context in ears.heard] == [False, True]
    assert speaker.speech.text == text(1, 5)
    assert speaker.speech.dropped == ()


def test_what_stays_doubtful_is_set_aside_and_kept() -> None:
    """It is in `dropped` with its reason, and not in the text or a caption."""
    engine, ears, _ = made()
    ears.probability = lambda context: 0.1
    speaker = Speaker(engine)
    speaker.say(said(1, 5), pause(1))
    exhaust(engine)
    speaker.stop()
    exhaust(engine)
    assert {(c.final, c.committed, c.interim) for c in speaker.captions} == {("", "", "")}
    speech = speaker.speech
    assert (speech.text, speech.segments) == ("", ())
    assert [(s.text, s.drop_reason) for s in speech.dropped] == [(text(1, 5), "unlikely")]


@pytest.mark.parametrize("seconds", [0.0, 0.01, 5.0])
def test_silence_is_never_listened_to(seconds: float) -> None:
    """No voice, no whisper; nothing at all is silence too."""
    engine, ears, _ = made()
    speaker = Speaker(engine)
    speaker.say(pause(seconds))
    speaker.stop()
    exhaust(engine)
    assert ears.heard == []
    assert [s.drop_reason for s in speaker.speech.dropped] == ["silence"]
    assert speaker.speech.dropped[0].end == speaker.speech.seconds == pytest.approx(seconds)


def test_ten_minutes_keep_pace() -> None:
    """On a machine that computes half a second for each second, the last caption lags no more than
    the first ones, and every word is there."""
    engine, _, clock = made(cost=0.1)
    speaker = Speaker(engine, clock=clock)
    sentences = [piece for n in range(120) for piece in (said(1 + 14 * n, 14), pause(0.5))]
    live(engine, clock, [(speaker, np.concatenate(sentences))])
    assert speaker.speech.seconds > 590
    assert speaker.speech.text == text(1, 14 * 120)
    assert max(speaker.lags[-20:]) <= max(speaker.lags[:20]) + 1.0


def test_captions_that_cost_too_much_become_rarer() -> None:
    """Passes take at most half of the time that is spoken, and finals do not fall behind."""
    engine, ears, clock = made(cost=0.2)
    speaker = Speaker(engine)
    live(engine, clock, [(speaker, said(1, 60))])
    spent = sum(0.2 * max(1.1, 0.32 * (last - first + 1)) for first, last, _ in ears.heard)
    assert spent < 0.32 * 60
    assert speaker.speech.text == text(1, 60)
    assert clock.now < 60 * 0.32 + 0.2 * 26 + 2


def test_a_long_recording_does_not_hold_up_anothers_captions() -> None:
    """Ten minutes at once, and somebody who speaks: a caption is late by one segment at most."""
    engine, _, clock = made(cost=0.1)
    whole = Speaker(engine, 1, whole=True)
    for n in range(60):
        whole.say(said(1 + 20 * n, 20), pause(1))
    whole.stop()
    speaker = Speaker(engine, 2)
    alone, _, other = made(cost=0.1)
    unhindered = Speaker(alone, 1)
    live(alone, other, [(unhindered, said(1, 30))])
    clock.now = 0.0
    live(engine, clock, [(speaker, said(1, 30))])
    assert not whole.call.completed, "it was not long enough to be in the way"
    assert speaker.speech.text == text(1, 30)
    segment = 0.1 * (20 * 0.32 + 1)
    gaps = [b.seconds - a.seconds for a, b in itertools.pairwise(speaker.captions)]
    free = [b.seconds - a.seconds for a, b in itertools.pairwise(unhindered.captions)]
    assert max(gaps) <= max(free) + segment + 0.2
    exhaust(engine)
    assert whole.speech.text == text(1, 1_200)


def test_eight_speakers_have_their_turns() -> None:
    """More is spoken than captions can follow: nobody goes without, and every word is written."""
    engine, _, clock = made(cost=0.05)
    speakers = [Speaker(engine, n) for n in range(1, 9)]
    script = np.concatenate(
        [piece for n in range(6) for piece in (said(1 + 12 * n, 12), pause(0.8))]
    )
    live(engine, clock, [(speaker, script) for speaker in speakers])
    counts = [len(speaker.captions) for speaker in speakers]
    assert 2 * min(counts) > max(counts), counts
    assert {speaker.speech.text for speaker in speakers} == {text(1, 72)}


def test_who_has_stopped_does_not_wait_for_captions() -> None:
    """Seven speak on; the eighth's last words come after one pass at most."""
    engine, _, clock = made(cost=0.1)
    speakers = [Speaker(engine, n) for n in range(1, 9)]
    for speaker in speakers:
        speaker.say(said(1, 5))
    engine.run_step()
    speakers[-1].stop()
    began = clock.now
    engine.run_step()
    assert speakers[-1].speech.text == text(1, 5)
    assert clock.now - began <= 0.1 * 2.0


def test_a_cancelled_recording_makes_way() -> None:
    """Nothing of it is heard any more, and its place is free."""
    engine, ears, _ = made()
    given_up, other = Speaker(engine, 1), Speaker(engine, 2)
    given_up.say(said(1, 200))
    given_up.call.cancelled = True
    other.say(said(301, 3))
    other.stop()
    exhaust(engine)
    assert isinstance(given_up.frames[-1], DoneFrame)
    assert [first for first, _, _ in ears.heard] == [301]


def test_a_recording_that_is_given_up_while_it_is_heard_ends_the_look() -> None:
    """The abort of a native computation, asked for in the middle of it."""
    engine, ears, _ = made()
    speaker = Speaker(engine)
    speaker.say(said(1, 10), pause(2))

    def gives_up() -> None:
        speaker.call.cancelled = True

    ears.meanwhile = gives_up
    exhaust(engine)
    assert ears.heard == []
    assert isinstance(speaker.frames[-1], DoneFrame)


def test_sound_that_is_none_costs_its_own_recording_only() -> None:
    """Half a sample, and what is no sound at all: a typed error; the other one is written down."""
    engine, _, _ = made()
    broken, foreign, other = (Speaker(engine, n) for n in (1, 2, 3))
    broken.call.inputs.append(encode_payload(AudioChunk(b"\0\0\0")))
    foreign.call.inputs.append(encode_payload("hello"))
    other.say(said(1, 3))
    other.stop()
    exhaust(engine)
    assert (broken.failure.code, broken.failure.retryable) == ("bad_audio", False)
    assert foreign.failure.code == ErrorCode.BAD_AUDIO
    assert other.speech.text == text(1, 3)


def test_half_an_hour_is_the_longest_recording() -> None:
    """One that does not end is refused, not kept in memory for ever."""
    engine, _, _ = made()
    speaker = Speaker(engine)
    for _ in range(31):
        speaker.say(pause(60))
    exhaust(engine)
    assert (speaker.failure.code, speaker.failure.retryable) == ("request_too_long", False)


def test_ears_that_fail_cost_one_recording() -> None:
    """A failure of the library is told to the one who spoke; the next is served."""
    engine, ears, _ = made()
    first, second = Speaker(engine, 1), Speaker(engine, 2)

    def fails() -> None:
        ears.meanwhile = lambda: None
        raise InferenceError("Out of luck.", code=ErrorCode.TRANSCRIPTION_FAILED)

    ears.meanwhile = fails
    for speaker in (first, second):
        speaker.say(said(1, 3))
        speaker.stop()
    exhaust(engine)
    assert (first.failure.code, first.failure.retryable) == ("transcription_failed", True)
    assert second.speech.text == text(1, 3)


def test_the_engine_says_how_busy_it_is() -> None:
    """Recordings, finished segments that wait, and how far captions are behind."""
    engine, ears, _ = made()
    speaker = Speaker(engine)

    def goes_on() -> None:
        ears.meanwhile = lambda: None
        speaker.say(said(4, 3))

    ears.meanwhile = goes_on
    speaker.say(said(1, 3))
    engine.run_step()
    frames: list[Reply] = []
    engine.submit(EngineCall(RequestFrame(9, encode_payload(GetSpeechStats())), frames.append))
    event, done = frames
    assert isinstance(event, EventFrame)
    assert isinstance(done, DoneFrame)
    stats = msgspec.msgpack.decode(event.payload, type=SpeechStats)
    assert (stats.recordings, stats.waiting) == (1, 0)
    assert stats.caption_lag == pytest.approx(3 * 0.32, abs=0.05)
