"""One recording that is being listened to: what was heard of it and what is still to be heard."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Raw, Struct
from numpy.typing import NDArray

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.types import PartialTranscript, Segment, Transcription
from prepserver.engines.whisper.agreement import Agreement
from prepserver.engines.whisper.options import LONGEST, AudioChunk, Transcribe
from prepserver.engines.whisper.sample_buffer import SampleBuffer
from prepserver.engines.whisper.scheduler import PendingWork
from prepserver.engines.whisper.segmenter import Segmenter, Span
from prepserver.engines.whisper.span_transcriber import SpanTranscriber, TranscriptionResult
from prepserver.engines.whisper.voice_activity import VoiceChunk
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["RecordingTranscription", "VoiceDetector"]

FRESH = round(0.7 * SAMPLE_RATE)
"""Samples of new speech that are worth another pass."""
SETTLED = round(0.2 * SAMPLE_RATE)
"""Samples after the last voice from which on the last word is taken to be whole."""
SHARE = 2.0
"""A pass comes only after this many times as much speech as the last one took to compute, so that
captions leave half of the machine, and more, to others."""
TAKEN = 2 * SAMPLE_RATE
"""Samples that are looked through for a voice in one go; it takes some 60 ms."""
ALIVE_EVERY = 1.0
"""Seconds."""

_sound: msgspec.msgpack.Decoder[AudioChunk] = msgspec.msgpack.Decoder(AudioChunk)


class VoiceDetector(Protocol):
    """Finds voices in one recording; `prepserver.engines.whisper.voice_activity.Voice` is one."""

    def hear(self, samples: NDArray[np.int16]) -> list[VoiceChunk]: ...
    def end(self) -> list[VoiceChunk]: ...


class SpanDraft(Struct, frozen=True):
    """What the last pass over the open span heard."""

    span: Span
    verdict: TranscriptionResult
    agreement: Agreement

    def covers(self, span: Span) -> bool:
        """Whether another pass over a finished span would hear nothing else."""
        return not self.verdict.doubtful and _same_voice(self.span, span)


class RecordingTranscription:
    """Nothing here waits: `take` and `work` do what there is to do now."""

    def __init__(
        self, call: EngineCall, asked: Transcribe, voice: VoiceDetector, clock: Callable[[], float]
    ) -> None:
        """`clock` gives seconds that only ever grow."""
        self.call = call
        self.lag: float | None = None
        """Seconds of sound that was there already, and not in it, when the last caption was sent;
        None before the first."""
        self._vocabulary = asked.vocabulary
        self._whole = asked.whole
        self._voice = voice
        self._clock = clock
        self._tape = SampleBuffer()
        self._segmenter = Segmenter()
        self._finished: deque[tuple[Span, float]] = deque()
        """Spans that are to be written down, and since when."""
        self._draft: SpanDraft | None = None
        self._due: float | None = None
        """Since when a pass over the open span has been worth its while."""
        self._cost = 0.0
        """Seconds that the last such pass took."""
        self._served = self._said = clock()
        self._kept: list[Segment] = []
        self._dropped: list[Segment] = []
        self._written = 0.0
        """Seconds of the recording up to which there is a transcript."""
        self._over = False
        """Whether the whole recording was looked through."""

    @property
    def complete(self) -> bool:
        return self._over and not self._finished

    @property
    def waiting(self) -> int:
        """Spans that are finished and not written down."""
        return len(self._finished)

    def speech(self) -> Transcription:
        """The transcript, once it is complete."""
        seconds = self._tape.end / SAMPLE_RATE
        dropped = tuple(self._dropped)
        if not self._kept and not dropped:
            dropped = (Segment(start=0.0, end=seconds, text="", drop_reason="silence"),)
        return Transcription(
            text=self._final, segments=tuple(self._kept), dropped=dropped, seconds=seconds
        )

    # --- Taking in ----------------------------------------------------------------------------

    def take(self) -> bool:
        """Look for a voice in what has come; whether there is more of it.

        Raises InferenceError: `bad_audio`, or `request_too_long`.
        """
        # In this order: what is fed before the end is there when the end is.
        self._proceed()
        ends, fed, taken = self.call.input_ended, self.call.inputs, 0
        while fed and taken < TAKEN:
            samples = _samples(fed.popleft())
            taken += len(samples)
            self._tape.add(samples)
            if self._tape.end > LONGEST * SAMPLE_RATE:
                raise InferenceError(
                    f"A recording may last {LONGEST // 60} minutes; record the rest of it anew.",
                    code=ErrorCode.REQUEST_TOO_LONG,
                    retryable=False,
                )
            self._note(self._voice.hear(samples))
        if ends and not fed and not self._over:
            self._note(self._voice.end())
            self._finish(self._segmenter.end(self._tape.end))
            self._over = True
        self._due = None if not self._worthwhile() else self._due or self._clock()
        return bool(fed)

    def _note(self, chunks: list[VoiceChunk]) -> None:
        for chunk in chunks:
            self._finish(self._segmenter.add(chunk.probability, chunk.level))
        begin = self._finished[0][0].begin if self._finished else self._segmenter.settled
        self._tape.forget(begin)

    def _finish(self, span: Span | None) -> None:
        if span is not None:
            self._finished.append((span, self._clock()))

    def _worthwhile(self) -> bool:
        """Whether a pass over the open span would say something new."""
        span = self._segmenter.open
        # What is over needs no captions, and with more sound there a pass would be late already.
        if span is None or self._whole or self.call.input_ended or self.call.inputs:
            return False
        draft = self._draft
        heard = span.begin if draft is None or draft.span.begin != span.begin else draft.span.voiced
        new = span.voiced - heard
        if self._segmenter.position - span.voiced >= SETTLED:
            return new > 0
        return new >= max(FRESH, SHARE * self._cost * SAMPLE_RATE)

    # --- Working ------------------------------------------------------------------------------

    def turn(self) -> PendingWork | None:
        """What it waits for, if it waits."""
        if self._finished:
            _, since = self._finished[0]
            return PendingWork(max(since, self._served), self._over and len(self._finished) == 1)
        return None if self._due is None else PendingWork(max(self._due, self._served))

    def work(self, hearing: SpanTranscriber) -> None:
        """One piece of work; there is one if `turn` says so. Raises InferenceError."""
        if self._finished:
            self._write_down(hearing)
        else:
            self._pass_over(hearing)
        self._served = self._clock()

    def _write_down(self, hearing: SpanTranscriber) -> None:
        span, _ = self._finished[0]
        if self._draft is not None and self._draft.covers(span):
            verdict: TranscriptionResult | None = self._draft.verdict
        else:
            samples = self._tape.part(span.begin, span.end)
            verdict = hearing.listen(samples, span.begin, self._vocabulary, self._proceed)
        if verdict is None:
            return
        self._finished.popleft()
        self._draft = None
        verdict = verdict.after(self._written)
        self._kept += verdict.kept
        self._dropped += verdict.dropped
        self._written = max([self._written, *(segment.end for segment in verdict.kept)])
        if not self.complete:
            self._caption(span.end)

    def _pass_over(self, hearing: SpanTranscriber) -> None:
        span = self._segmenter.open
        assert span is not None
        self._due = None
        position = self._segmenter.position
        began = self._clock()
        samples = self._tape.part(span.begin, span.end)
        verdict = hearing.glance(
            samples, span.begin, self._vocabulary, lambda: self._proceed() and self._useful(span)
        )
        self._cost = self._clock() - began
        if verdict is None:
            return
        before = self._draft
        if before is None or before.span.begin != span.begin:
            agreement = Agreement()
        else:
            agreement = before.agreement
        self._draft = SpanDraft(span, verdict, agreement.heard(verdict.text))
        self._caption(position)

    def _proceed(self) -> bool:
        if self._clock() - self._said > ALIVE_EVERY:
            self._said = self._clock()
            self.call.send_heartbeat()
        return not self.call.cancelled

    def _useful(self, span: Span) -> bool:
        """Whether a pass over a span is still worth being ended: when the speaker has stopped and
        said something after the pass began, it only delays the one that counts."""
        if self.call.input_ended and not self._over:
            self.take()
        if not self._over:
            return True
        return bool(self._finished) and _same_voice(span, self._finished[0][0])

    def _caption(self, position: int) -> None:
        agreement = self._draft.agreement if self._draft is not None else Agreement()
        if not self.call.input_ended:
            there = self._tape.end + sum(len(_samples(raw)) for raw in tuple(self.call.inputs))
            self.lag = max(0.0, (there - position) / SAMPLE_RATE)
        self.call.send_event(
            PartialTranscript(
                final=self._final,
                committed=agreement.committed,
                interim=agreement.interim,
                seconds=position / SAMPLE_RATE,
            )
        )

    @property
    def _final(self) -> str:
        return " ".join(segment.text for segment in self._kept)


def _same_voice(earlier: Span, span: Span) -> bool:
    """Whether all that was said in a finished span was in an earlier look at it, to the end of its
    last word."""
    return (
        earlier.begin == span.begin
        and earlier.voiced == span.voiced
        and earlier.end >= min(span.end, span.voiced + SETTLED)
    )


def _samples(raw: Raw) -> NDArray[np.int16]:
    try:
        pcm = _sound.decode(raw).pcm
    except msgspec.DecodeError:
        raise _bad("is not sound") from None
    if len(pcm) % 2:
        raise _bad("ends within a sample")
    return np.frombuffer(pcm, dtype="<i2")


def _bad(how: str) -> InferenceError:
    return InferenceError(
        f"The recording {how}; record it again.", code=ErrorCode.BAD_AUDIO, retryable=False
    )
