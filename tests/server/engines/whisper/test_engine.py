"""Engine with a fake transcriber: passes, captions and the order of work."""

import itertools

import msgspec
import numpy as np
import pytest

from prepserver.engines.ipc.frames import DoneFrame, EventFrame, Reply, RequestFrame, encode_payload
from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.types import SpeechStats
from prepserver.engines.whisper.engine import WhisperEngine, select_next
from prepserver.engines.whisper.options import AudioChunk, GetSpeechStats
from prepserver.engines.whisper.recording_transcriber import PendingWork
from prepserver.engines.whisper.voice_activity import CHUNK
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.whisper.fakes import (
    WORD_SECONDS,
    FakeDetector,
    FakeTime,
    FakeTranscriber,
    Speaker,
    run_live,
    run_until_idle,
    silence,
    speech,
    text,
)


def new_engine(cost: float = 0.0) -> tuple[WhisperEngine, FakeTranscriber, FakeTime]:
    """Return a new engine, its transcriber and its clock.

    `cost` is the number of seconds of computation for each second of audio.
    """
    clock = FakeTime()
    transcriber = FakeTranscriber(clock, cost)
    return WhisperEngine(transcriber, FakeDetector, clock), transcriber, clock


# --- Complete recordings ------------------------------------------------------------------------


def test_a_complete_recording_is_transcribed_span_by_span() -> None:
    """Each span of a recording takes one pass, and every word appears once, in order, with its
    time."""
    engine, transcriber, _ = new_engine()
    speaker = Speaker(engine, drafts=False)
    speaker.send(silence(1), speech(1, 20), silence(2), speech(21, 20), silence(1))
    speaker.stop()
    run_until_idle(engine)
    transcription = speaker.transcription
    assert transcription.text == text(1, 40)
    assert len(transcription.segments) == len(transcriber.passes) == 2
    words = [word for segment in transcription.segments for word in segment.words]
    assert words[0].start == pytest.approx(1.0, abs=0.01)
    assert words[20].start == pytest.approx(1 + 20 * WORD_SECONDS + 2, abs=0.01)
    assert transcription.seconds == pytest.approx(4 + 40 * WORD_SECONDS)


def test_a_complete_recording_gets_the_same_transcript_however_it_arrives() -> None:
    """A recording of two spans takes two passes and gets the same transcript whether it arrives in
    one piece or in seven pieces."""
    transcriptions = []
    samples = np.concatenate([speech(1, 20), silence(2), speech(21, 3)])
    for pieces in (1, 7):
        engine, transcriber, _ = new_engine()
        speaker = Speaker(engine, drafts=False)
        for piece in np.array_split(samples, pieces):
            speaker.send(piece)
            run_until_idle(engine)
        speaker.stop()
        run_until_idle(engine)
        assert len(transcriber.passes) == 2
        transcriptions.append(speaker.transcription)
    assert transcriptions[0] == transcriptions[1]


# --- Captions -----------------------------------------------------------------------------------


def test_text_becomes_interim_then_committed_then_final() -> None:
    """A first pass gives interim text, a second pass commits the text, and the end of the span
    makes the text final."""
    engine, _, clock = new_engine(cost=0.01)
    speaker = Speaker(engine)
    samples = np.concatenate([speech(1, 8), silence(2), speech(9, 4), silence(2)])
    run_live(engine, clock, [(speaker, samples)])
    captions = speaker.captions
    assert captions[0].interim.startswith(text(1, 1))
    assert captions[0].committed == captions[0].final == ""
    assert any(caption.committed.startswith(text(1, 2)) for caption in captions)
    assert any(caption.final == text(1, 8) for caption in captions)
    for before, after in itertools.pairwise(captions):
        assert after.final.startswith(before.final)
        assert after.seconds >= before.seconds
    assert speaker.transcription.text == text(1, 12)


def test_a_caption_follows_every_second_of_speech() -> None:
    """While the machine keeps up, consecutive captions are less than a second of speech apart."""
    engine, _, clock = new_engine(cost=0.01)
    speaker = Speaker(engine)
    run_live(engine, clock, [(speaker, speech(1, 30))])
    times = [0.0, *(caption.seconds for caption in speaker.captions)]
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.0


def test_a_draft_of_all_speech_becomes_the_transcript() -> None:
    """If the last draft covers all speech, stopping the recording requires no further pass."""
    engine, transcriber, clock = new_engine(cost=0.01)
    speaker = Speaker(engine)
    speaker.send(speech(1, 6), silence(0.3))
    run_until_idle(engine)
    assert transcriber.passes[-1][:2] == (1, 6)
    passes, began = len(transcriber.passes), clock.now
    speaker.stop()
    run_until_idle(engine)
    assert (len(transcriber.passes), clock.now) == (passes, began)
    assert speaker.transcription.text == text(1, 6)


def test_a_word_after_the_last_draft_is_transcribed() -> None:
    """If the last draft lacks the last word, another pass adds the word to the transcript."""
    engine, _, _ = new_engine()
    speaker = Speaker(engine)
    speaker.send(speech(1, 6), silence(0.3))
    run_until_idle(engine)
    speaker.send(speech(7, 1))
    speaker.stop()
    run_until_idle(engine)
    assert speaker.transcription.text == text(1, 7)


def test_a_finished_span_is_never_transcribed_again() -> None:
    """Passes after the end of a span do not include the words of that span."""
    engine, transcriber, clock = new_engine(cost=0.01)
    speaker = Speaker(engine)
    samples = np.concatenate(
        [speech(1, 10), silence(1.5), speech(11, 30), silence(1.5), speech(41, 10)]
    )
    run_live(engine, clock, [(speaker, samples)])
    later = [first for first, last, _ in transcriber.passes if last > 10]
    assert min(later) == 11
    assert speaker.transcription.text == text(1, 50)


def test_a_draft_that_the_end_makes_useless_is_aborted() -> None:
    """If the speaker says more words and stops during a draft, the draft is aborted and only the
    final pass is completed."""
    engine, transcriber, _ = new_engine()
    speaker = Speaker(engine)

    def speak_and_stop() -> None:
        transcriber.during_pass = lambda: None
        speaker.send(speech(5, 2))
        speaker.stop()

    transcriber.during_pass = speak_and_stop
    speaker.send(speech(1, 4))
    run_until_idle(engine)
    assert transcriber.passes == [(1, 6, transcriber.passes[0][2])]
    assert speaker.transcription.text == text(1, 6)


def test_a_draft_of_all_speech_is_not_aborted_at_the_end() -> None:
    """A draft that is running when the recording ends becomes the transcript if only silence
    follows the speech in the draft."""
    engine, transcriber, _ = new_engine()
    speaker = Speaker(engine)

    def stop_after_silence() -> None:
        transcriber.during_pass = lambda: None
        speaker.send(silence(0.1))
        speaker.stop()

    speaker.send(speech(1, 4), silence(0.25))
    transcriber.during_pass = stop_after_silence
    run_until_idle(engine)
    assert len(transcriber.passes) == 1
    assert speaker.transcription.text == text(1, 4)


# --- Hallucinations and silence -----------------------------------------------------------------


def test_an_unlikely_result_of_the_fast_pass_leads_to_a_full_pass() -> None:
    """An unlikely result of the fast pass is replaced by the result of a full-window pass."""
    engine, transcriber, _ = new_engine()
    transcriber.probability = lambda audio_ctx: 0.1 if audio_ctx else 0.8
    speaker = Speaker(engine)
    speaker.send(speech(1, 5), silence(1))
    speaker.stop()
    run_until_idle(engine)
    assert [audio_ctx == 0 for _, _, audio_ctx in transcriber.passes] == [False, True]
    assert speaker.transcription.text == text(1, 5)
    assert speaker.transcription.dropped == ()


def test_a_segment_that_stays_unlikely_is_dropped() -> None:
    """A segment that is unlikely even after a full-window pass is listed in `dropped` with the
    reason, and appears in no caption."""
    engine, transcriber, _ = new_engine()
    transcriber.probability = lambda audio_ctx: 0.1
    speaker = Speaker(engine)
    speaker.send(speech(1, 5), silence(1))
    run_until_idle(engine)
    speaker.stop()
    run_until_idle(engine)
    assert {(c.final, c.committed, c.interim) for c in speaker.captions} == {("", "", "")}
    transcription = speaker.transcription
    assert (transcription.text, transcription.segments) == ("", ())
    assert [(s.text, s.drop_reason) for s in transcription.dropped] == [(text(1, 5), "unlikely")]


@pytest.mark.parametrize("pause", [0.25, 0.4, 0.5, 0.58])
def test_captions_never_cover_less(pause: float) -> None:
    """The caption of a finished span covers no less than the last draft, which may have covered
    more of the silence after the speech."""
    clock = FakeTime()
    engine = WhisperEngine(FakeTranscriber(clock), FakeDetector, clock)
    speaker = Speaker(engine, drafts=True)
    for samples in ((speech(1, 5), silence(pause)), (silence(1.0),), (speech(11, 5),)):
        speaker.send(*samples)
        run_until_idle(engine)
    covered = [caption.seconds for caption in speaker.captions]
    assert covered == sorted(covered)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 5.0])
def test_silence_is_never_transcribed(seconds: float) -> None:
    """An empty or silent recording takes no pass and has one dropped segment with the reason
    `silence`."""
    engine, transcriber, _ = new_engine()
    speaker = Speaker(engine)
    speaker.send(silence(seconds))
    speaker.stop()
    run_until_idle(engine)
    assert transcriber.passes == []
    transcription = speaker.transcription
    assert [segment.drop_reason for segment in transcription.dropped] == ["silence"]
    assert transcription.dropped[0].end == transcription.seconds == pytest.approx(seconds)


# --- Load ---------------------------------------------------------------------------------------


def test_captions_do_not_fall_behind_in_ten_minutes() -> None:
    """In a ten-minute recording, the lag of the last captions exceeds the lag of the first captions
    by at most one second."""
    engine, _, clock = new_engine(cost=0.1)
    speaker = Speaker(engine, clock=clock)
    sentences = [piece for n in range(120) for piece in (speech(1 + 14 * n, 14), silence(0.5))]
    run_live(engine, clock, [(speaker, np.concatenate(sentences))])
    assert speaker.transcription.seconds > 590
    assert speaker.transcription.text == text(1, 14 * 120)
    assert max(speaker.lags[-20:]) <= max(speaker.lags[:20]) + 1.0


def test_expensive_drafts_come_less_often() -> None:
    """On a slow machine, drafts are made less often, so that final text does not fall behind."""
    engine, transcriber, clock = new_engine(cost=0.2)
    speaker = Speaker(engine)
    # The first word is shortened, so that no span is cut in the middle of a word.
    run_live(engine, clock, [(speaker, speech(1, 60)[2 * CHUNK :])])
    spent = sum(
        0.2 * max(1.1, WORD_SECONDS * (last - first + 1)) for first, last, _ in transcriber.passes
    )
    assert spent < WORD_SECONDS * 60
    assert speaker.transcription.text == text(1, 60)
    assert clock.now < 60 * WORD_SECONDS + 0.2 * 26 + 2


def test_a_long_recording_delays_another_speakers_captions_by_one_span_at_most() -> None:
    """A recording of ten minutes that arrives at once delays another speaker's captions by at most
    the time that one span takes."""
    engine, _, clock = new_engine(cost=0.1)
    long = Speaker(engine, 1, drafts=False)
    for n in range(60):
        long.send(speech(1 + 20 * n, 20), silence(1))
    long.stop()
    speaker = Speaker(engine, 2)
    idle_engine, _, idle_clock = new_engine(cost=0.1)
    undisturbed = Speaker(idle_engine, 1)
    run_live(idle_engine, idle_clock, [(undisturbed, speech(1, 30))])
    clock.now = 0.0
    run_live(engine, clock, [(speaker, speech(1, 30))])
    assert not long.call.completed, "the long recording ended too early to compete"
    assert speaker.transcription.text == text(1, 30)
    span = 0.1 * (20 * WORD_SECONDS + 1)
    gaps = [b.seconds - a.seconds for a, b in itertools.pairwise(speaker.captions)]
    idle_gaps = [b.seconds - a.seconds for a, b in itertools.pairwise(undisturbed.captions)]
    assert max(gaps) <= max(idle_gaps) + span + 0.2
    run_until_idle(engine)
    assert long.transcription.text == text(1, 1_200)


def test_eight_speakers_share_the_engine_fairly() -> None:
    """If eight speakers overload the engine, each speaker gets more than half as many captions as
    any other speaker, and no word is lost."""
    engine, _, clock = new_engine(cost=0.05)
    speakers = [Speaker(engine, n) for n in range(1, 9)]
    samples = np.concatenate(
        [piece for n in range(6) for piece in (speech(1 + 12 * n, 12), silence(0.8))]
    )
    run_live(engine, clock, [(speaker, samples) for speaker in speakers])
    counts = [len(speaker.captions) for speaker in speakers]
    assert 2 * min(counts) > max(counts), counts
    assert {speaker.transcription.text for speaker in speakers} == {text(1, 72)}


def test_final_text_goes_before_other_speakers_captions() -> None:
    """When one of eight speakers stops, the next pass gives that speaker's transcript."""
    engine, _, clock = new_engine(cost=0.1)
    speakers = [Speaker(engine, n) for n in range(1, 9)]
    for speaker in speakers:
        speaker.send(speech(1, 5))
    engine.run_step()
    speakers[-1].stop()
    began = clock.now
    engine.run_step()
    assert speakers[-1].transcription.text == text(1, 5)
    assert clock.now - began <= 0.1 * 2.0


def test_nothing_is_selected_without_pending_work() -> None:
    """If no recording has pending work, nothing is selected."""
    assert select_next([]) is None
    assert select_next([None, None]) is None


def test_the_longest_wait_is_selected_first() -> None:
    """The recording that has waited longest is selected; of recordings that have waited equally
    long, the first in the list is selected."""
    assert select_next([PendingWork(3.0), None, PendingWork(1.0), PendingWork(2.0)]) == 2
    assert select_next([PendingWork(1.0), PendingWork(1.0)]) == 0


def test_the_last_piece_of_an_ended_recording_is_selected_first() -> None:
    """The last piece of an ended recording is selected before other work; of several last pieces,
    the one that has waited longest is selected."""
    last = PendingWork(4.0, last=True)
    assert select_next([PendingWork(1.0), PendingWork(5.0, last=True)]) == 1
    assert select_next([PendingWork(5.0, last=True), PendingWork(1.0), last]) == 2


# --- Cancellation and failure -------------------------------------------------------------------


def test_a_cancelled_recording_is_not_transcribed() -> None:
    """The audio of a cancelled recording is not processed, and another recording is served."""
    engine, transcriber, _ = new_engine()
    cancelled, other = Speaker(engine, 1), Speaker(engine, 2)
    cancelled.send(speech(1, 200))
    cancelled.call.cancelled = True
    other.send(speech(301, 3))
    other.stop()
    run_until_idle(engine)
    assert isinstance(cancelled.frames[-1], DoneFrame)
    assert [first for first, _, _ in transcriber.passes] == [301]


def test_a_cancellation_during_a_pass_aborts_the_pass() -> None:
    """Cancelling a recording during a pass aborts the pass."""
    engine, transcriber, _ = new_engine()
    speaker = Speaker(engine)
    speaker.send(speech(1, 10), silence(2))

    def cancel() -> None:
        speaker.call.cancelled = True

    transcriber.during_pass = cancel
    run_until_idle(engine)
    assert transcriber.passes == []
    assert isinstance(speaker.frames[-1], DoneFrame)


def test_invalid_audio_fails_its_own_recording_only() -> None:
    """A recording with half a sample or an unknown message fails with a typed error, and another
    recording succeeds."""
    engine, _, _ = new_engine()
    half_sample, unknown, other = (Speaker(engine, n) for n in (1, 2, 3))
    half_sample.call.inputs.append(encode_payload(AudioChunk(b"\0\0\0")))
    unknown.call.inputs.append(encode_payload("hello"))
    other.send(speech(1, 3))
    other.stop()
    run_until_idle(engine)
    assert (half_sample.failure.code, half_sample.failure.retryable) == (ErrorCode.BAD_AUDIO, False)
    assert unknown.failure.code == ErrorCode.BAD_AUDIO
    assert other.transcription.text == text(1, 3)


def test_a_recording_over_half_an_hour_is_refused() -> None:
    """A recording that is longer than half an hour is rejected."""
    engine, _, _ = new_engine()
    speaker = Speaker(engine)
    for _ in range(31):
        speaker.send(silence(60))
    run_until_idle(engine)
    assert (speaker.failure.code, speaker.failure.retryable) == (ErrorCode.REQUEST_TOO_LONG, False)


def test_a_failed_pass_fails_one_recording() -> None:
    """An error in a pass fails only the recording of that pass, and the next recording is
    transcribed."""
    engine, transcriber, _ = new_engine()
    first, second = Speaker(engine, 1), Speaker(engine, 2)

    def fail() -> None:
        transcriber.during_pass = lambda: None
        raise InferenceError("Out of luck.", code=ErrorCode.TRANSCRIPTION_FAILED)

    transcriber.during_pass = fail
    for speaker in (first, second):
        speaker.send(speech(1, 3))
        speaker.stop()
    run_until_idle(engine)
    assert (first.failure.code, first.failure.retryable) == (ErrorCode.TRANSCRIPTION_FAILED, True)
    assert second.transcription.text == text(1, 3)


def test_the_engine_reports_its_load() -> None:
    """The engine reports the number of open recordings, the number of queued spans, and the caption
    lag in seconds."""
    engine, transcriber, _ = new_engine()
    speaker = Speaker(engine)

    def keep_speaking() -> None:
        transcriber.during_pass = lambda: None
        speaker.send(speech(4, 3))

    transcriber.during_pass = keep_speaking
    speaker.send(speech(1, 3))
    engine.run_step()
    frames: list[Reply] = []
    engine.submit(EngineCall(RequestFrame(9, encode_payload(GetSpeechStats())), frames.append))
    event, done = frames
    assert isinstance(event, EventFrame)
    assert isinstance(done, DoneFrame)
    stats = msgspec.msgpack.decode(event.payload, type=SpeechStats)
    assert (stats.recordings, stats.waiting) == (1, 0)
    assert stats.caption_lag == pytest.approx(3 * WORD_SECONDS, abs=0.05)


@pytest.mark.parametrize("live", [True, False])
def test_only_the_last_span_is_transcribed_in_haste(live: bool) -> None:
    """Spans for which nobody waits are encoded with one step of the window more than drafts and
    the last span."""
    engine, transcriber, clock = new_engine()
    speaker = Speaker(engine, drafts=live)
    samples = np.concatenate([speech(1, 10), silence(1.5), speech(11, 10), silence(0.3)])
    if live:
        run_live(engine, clock, [(speaker, samples)])
    else:
        speaker.send(samples)
        speaker.stop()
        run_until_idle(engine)
    assert speaker.transcription.text == text(1, 20)
    windows = {(first, last): ctx for first, last, ctx in transcriber.passes}
    assert windows[1, 10] == windows[11, 20] + 256
