"""Transcription of one recording, span by span, while it arrives."""

from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Raw, Struct
from numpy.typing import NDArray

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.transcripts import confidence
from prepserver.engines.types import PartialTranscript, Segment, Transcription
from prepserver.engines.whisper.agreement import Agreement
from prepserver.engines.whisper.languages import (
    DETECTION_SAMPLES,
    ENGLISH,
    LanguageEvidence,
)
from prepserver.engines.whisper.options import MAX_SECONDS, AudioChunk, Transcribe
from prepserver.engines.whisper.sample_buffer import SampleBuffer
from prepserver.engines.whisper.segmenter import Segmenter, Span
from prepserver.engines.whisper.span_transcriber import SpanTranscriber, SpanTranscript
from prepserver.engines.whisper.voice_activity import VoiceActivity, VoiceActivityDetector
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["PendingWork", "RecordingTranscriber"]

MIN_NEW_SPEECH = round(0.7 * SAMPLE_RATE)
"""Minimum number of samples of new speech before another draft of the open span, during continuous
speech."""
WORD_END_SILENCE = round(0.2 * SAMPLE_RATE)
"""Number of samples of silence after which the last word counts as complete."""
DRAFT_INTERVAL_FACTOR = 2.0
"""Minimum duration of new speech before another draft, during continuous speech, as a multiple of
the time that the previous draft took to compute. Drafts of one recording therefore use at most half
of the machine's time while the speaker does not pause."""
MAX_SAMPLES_PER_READ = 2 * SAMPLE_RATE
"""Number of samples after which a call of `read_audio` reads no more input; processing this many
samples takes about 60 ms."""
HEARTBEAT_SECONDS = 1.0
"""Minimum seconds between two heartbeats while native code runs."""

_decoder: msgspec.msgpack.Decoder[AudioChunk] = msgspec.msgpack.Decoder(AudioChunk)


class PendingWork(Struct, frozen=True):
    """Next piece of work on one recording."""

    since: float
    """Time at which the work became available or the recording was last served, whichever is
    later, in seconds on the engine's clock."""
    last: bool = False
    """True if the recording has ended and no other work on it is left, so that its speaker is
    waiting."""


class SpanDraft(Struct, frozen=True):
    """Transcript of the open span, from the last pass over the span."""

    span: Span
    """State of the span when the pass began."""
    transcript: SpanTranscript
    agreement: Agreement

    def is_final_for(self, span: Span) -> bool:
        """Return True if another fast pass over the finished span would give the same
        transcript."""
        return not self.transcript.needs_full_pass and _covers_speech(self.span, span)


class RecordingTranscriber:
    """Transcriber of one recording. No method waits for input: `read_audio` processes the audio
    that has arrived, and `run_pending` does one piece of work."""

    def __init__(
        self,
        call: EngineCall,
        request: Transcribe,
        detector: VoiceActivityDetector,
        clock: Callable[[], float],
    ) -> None:
        """Start with an empty recording; `clock` returns monotonic time in seconds."""
        self.call = call
        self.caption_lag: float | None = None
        """Seconds of received audio that the last caption did not cover when the caption was sent;
        None before the first caption. Captions sent after the end of the input do not count."""
        self._vocabulary = request.expected.vocabulary
        self._drafts = request.drafts
        self._detector = detector
        self._clock = clock
        self._buffer = SampleBuffer()
        self._segmenter = Segmenter()
        self._queue: deque[tuple[Span, float]] = deque()
        """Finished spans that are not transcribed yet, each with the time at which the span was
        finished, in seconds on the engine's clock."""
        self._draft: SpanDraft | None = None
        self._draft_due: float | None = None
        """Time at which a new draft became due, in seconds on the engine's clock; None while no
        draft is due."""
        self._draft_cost = 0.0
        """Seconds that the last draft took to compute."""
        self._served_at = self._heartbeat_at = clock()
        self._languages = LanguageEvidence(request.expected.language)
        self._language = ""
        """Language of the last span; empty before the first."""
        self._detected = (0, 0)
        """Position of the samples in which the language was last detected, and their number."""
        self._english_only = False
        self._kept: list[Segment] = []
        self._dropped: list[Segment] = []
        self._captioned_until = 0
        """Number of samples that the last caption covered."""
        self._transcribed_until = 0.0
        """End of the last kept segment, in seconds from the beginning of the recording."""
        self._ended = False
        """True once all audio has been read and segmented."""

    @property
    def complete(self) -> bool:
        """True once the recording has ended and every span is transcribed."""
        return self._ended and not self._queue

    @property
    def queued_spans(self) -> int:
        """Number of finished spans that are not transcribed yet."""
        return len(self._queue)

    def result(self) -> Transcription:
        """Return the transcript of a complete recording."""
        seconds = self._buffer.end / SAMPLE_RATE
        dropped = tuple(self._dropped)
        if not self._kept and not dropped:
            dropped = (Segment(start=0.0, end=seconds, text="", drop_reason="silence"),)
        return Transcription(
            text=self._final_text,
            segments=tuple(self._kept),
            dropped=dropped,
            seconds=seconds,
            confidence=confidence([*self._kept, *dropped]),
            language=self._language,
            english_only=self._english_only,
        )

    # --- Audio --------------------------------------------------------------------------------

    def read_audio(self) -> bool:
        """Segment audio that has arrived. Return True while input remains.

        Raises InferenceError, code `bad_audio` or `request_too_long`.
        """
        self._should_continue()
        # `input_ended` is read before `inputs`: once it is True, no more input follows.
        input_ended, inputs, count = self.call.input_ended, self.call.inputs, 0
        while inputs and count < MAX_SAMPLES_PER_READ:
            samples = _decode_samples(inputs.popleft())
            count += len(samples)
            self._buffer.append(samples)
            if self._buffer.end > MAX_SECONDS * SAMPLE_RATE:
                raise InferenceError(
                    f"The recording is longer than {MAX_SECONDS // 60} minutes, the maximum. Split "
                    "it into shorter recordings.",
                    code=ErrorCode.REQUEST_TOO_LONG,
                    retryable=False,
                )
            self._segment(self._detector.detect(samples))
        if input_ended and not inputs and not self._ended:
            self._segment(self._detector.flush())
            self._enqueue(self._segmenter.finish(self._buffer.end))
            self._ended = True
        self._draft_due = None if not self._needs_draft() else self._draft_due or self._clock()
        return bool(inputs)

    def _segment(self, chunks: list[VoiceActivity]) -> None:
        for chunk in chunks:
            self._enqueue(self._segmenter.add_chunk(chunk.probability, chunk.level))
        begin = self._queue[0][0].begin if self._queue else self._segmenter.next_begin
        self._buffer.discard_before(begin)

    def _enqueue(self, span: Span | None) -> None:
        if span is not None:
            self._queue.append((span, self._clock()))

    def _needs_draft(self) -> bool:
        """Return True if the open span has enough new speech for a draft. No draft is needed if
        captions are not wanted, the input has ended, or input is still unread."""
        span = self._segmenter.open_span
        # After the end no captions are needed, and with unread input a draft would be outdated.
        if span is None or not self._drafts or self.call.input_ended or self.call.inputs:
            return False
        draft = self._draft
        same_span = draft is not None and draft.span.begin == span.begin
        drafted_until = draft.span.speech_end if draft is not None and same_span else span.begin
        new_speech = span.speech_end - drafted_until
        if self._segmenter.position - span.speech_end >= WORD_END_SILENCE:
            return new_speech > 0
        required = DRAFT_INTERVAL_FACTOR * self._draft_cost * SAMPLE_RATE
        return new_speech >= max(MIN_NEW_SPEECH, required)

    # --- Transcription ------------------------------------------------------------------------

    def pending_work(self) -> PendingWork | None:
        """Return the next piece of work, or None if no work is pending."""
        if self._queue:
            _, finished_at = self._queue[0]
            last = self._ended and len(self._queue) == 1
            return PendingWork(max(finished_at, self._served_at), last)
        if self._draft_due is None:
            return None
        return PendingWork(max(self._draft_due, self._served_at))

    def run_pending(self, span_transcriber: SpanTranscriber) -> None:
        """Do the work that `pending_work` returned. Raises InferenceError."""
        if self._queue:
            self._transcribe_span(span_transcriber)
        else:
            self._draft_open_span(span_transcriber)
        self._served_at = self._clock()

    def _transcribe_span(self, span_transcriber: SpanTranscriber) -> None:
        span, _ = self._queue[0]
        transcript: SpanTranscript | None
        urgent = self._ended and len(self._queue) == 1
        if urgent and self._draft is not None and self._draft.is_final_for(span):
            transcript = self._draft.transcript
        else:
            samples = self._buffer.copy_range(span.begin, span.end)
            transcript = span_transcriber.transcribe(
                samples,
                span.begin,
                self._choose_language(span_transcriber, span.begin, samples),
                self._vocabulary,
                self._should_continue,
                urgent=urgent,
            )
        if transcript is None:
            return
        self._queue.popleft()
        self._languages.finish_span()
        self._draft = None
        transcript = transcript.starting_at(self._transcribed_until)
        self._kept += transcript.kept
        self._dropped += transcript.dropped
        ends = [segment.end for segment in transcript.kept]
        self._transcribed_until = max([self._transcribed_until, *ends])
        if not self.complete:
            self._send_caption(span.end)

    def _draft_open_span(self, span_transcriber: SpanTranscriber) -> None:
        span = self._segmenter.open_span
        assert span is not None
        self._draft_due = None
        position = self._segmenter.position
        started = self._clock()
        samples = self._buffer.copy_range(span.begin, span.end)
        transcript = span_transcriber.fast_pass(
            samples,
            span.begin,
            self._choose_language(span_transcriber, span.begin, samples),
            self._vocabulary,
            lambda: self._should_continue() and self._is_draft_useful(span),
        )
        self._draft_cost = self._clock() - started
        if transcript is None:
            return
        previous = self._draft
        if previous is None or previous.span.begin != span.begin:
            agreement = Agreement()
        else:
            agreement = previous.agreement
        self._draft = SpanDraft(span, transcript, agreement.after_pass(transcript.text))
        self._send_caption(position)

    def _choose_language(
        self, span_transcriber: SpanTranscriber, begin: int, samples: NDArray[np.int16]
    ) -> str:
        """Return the language of the answer, which is detected at the beginning of each span until
        it is certain. `begin` is the position of the span's first sample.

        Raises InferenceError if the detection fails.
        """
        self._english_only = not span_transcriber.multilingual
        if self._english_only:
            self._language = ENGLISH
        elif self._languages.language:
            self._language = self._languages.language
        else:
            examined = samples[:DETECTION_SAMPLES]
            detected = (begin, len(examined))
            if self._detected != detected:
                probabilities = span_transcriber.detect_language(examined)
                self._language = self._languages.weigh_span(probabilities)
                self._detected = detected
        return self._language

    def _should_continue(self) -> bool:
        """Send a heartbeat if one is due. Return True unless the caller has cancelled the
        request."""
        if self._clock() - self._heartbeat_at > HEARTBEAT_SECONDS:
            self._heartbeat_at = self._clock()
            self.call.send_heartbeat()
        return not self.call.cancelled

    def _is_draft_useful(self, span: Span) -> bool:
        """Return True unless the recording has ended with more speech than the draft of `span`
        covers.

        Finishing such a draft would only delay the final transcript. If the input has ended, the
        remaining audio is segmented first.
        """
        if self.call.input_ended and not self._ended:
            self.read_audio()
        if not self._ended:
            return True
        return bool(self._queue) and _covers_speech(span, self._queue[0][0])

    def _send_caption(self, position: int) -> None:
        """Send a caption that covers the recording up to `position`, in samples, or as far as an
        earlier caption that covered more silence."""
        position = self._captioned_until = max(self._captioned_until, position)
        agreement = self._draft.agreement if self._draft is not None else Agreement()
        if not self.call.input_ended:
            unread = sum(len(_decode_samples(raw)) for raw in tuple(self.call.inputs))
            self.caption_lag = max(0.0, (self._buffer.end + unread - position) / SAMPLE_RATE)
        self.call.send_event(
            PartialTranscript(
                final=self._final_text,
                committed=agreement.committed,
                interim=agreement.interim,
                seconds=position / SAMPLE_RATE,
            )
        )

    @property
    def _final_text(self) -> str:
        return " ".join(segment.text for segment in self._kept)


def _covers_speech(earlier: Span, finished: Span) -> bool:
    """Return True if `earlier` covers all speech in the finished span, including the end of the
    last word."""
    return (
        earlier.begin == finished.begin
        and earlier.speech_end == finished.speech_end
        and earlier.end >= min(finished.end, finished.speech_end + WORD_END_SILENCE)
    )


def _decode_samples(raw: Raw) -> NDArray[np.int16]:
    try:
        pcm = _decoder.decode(raw).pcm
    except msgspec.DecodeError:
        raise _bad_audio("is not audio") from None
    if len(pcm) % 2:
        raise _bad_audio("ends with an incomplete sample")
    return np.frombuffer(pcm, dtype="<i2")


def _bad_audio(problem: str) -> InferenceError:
    return InferenceError(
        f"The recording {problem}. Record it again.", code=ErrorCode.BAD_AUDIO, retryable=False
    )
