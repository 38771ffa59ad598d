"""Speech engine that transcribes all open recordings in a process of its own."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, structs

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.types import SpeechStats
from prepserver.engines.whisper.languages import ENGLISH
from prepserver.engines.whisper.loader import load_transcriber
from prepserver.engines.whisper.options import GetSpeechStats, Loaded, Transcribe, WhisperOptions
from prepserver.engines.whisper.recording_transcriber import PendingWork, RecordingTranscriber
from prepserver.engines.whisper.span_transcriber import SpanTranscriber
from prepserver.engines.whisper.transcriber import Transcriber
from prepserver.engines.whisper.voice_activity import SileroDetector, VoiceActivityDetector
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["WhisperEngine", "load"]

MAX_VOCABULARY = 600
"""Maximum length of a vocabulary, in code points. Whisper's prompt holds at most 224 tokens; a
longer prompt loses its beginning."""

_requests: msgspec.msgpack.Decoder[Transcribe | GetSpeechStats] = msgspec.msgpack.Decoder(
    Transcribe | GetSpeechStats
)


class WhisperEngine:
    """Engine that transcribes all open recordings, one span at a time.

    Implements `prepserver.engines.ipc.runner.Engine`.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        new_detector: Callable[[], VoiceActivityDetector] = SileroDetector,
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = "Whisper",
    ) -> None:
        """Create an idle engine.

        `new_detector` creates a detector for one recording; `clock` returns monotonic time in
        seconds; `name` is the name of the model in messages.
        """
        self._name = name
        self._span_transcriber = SpanTranscriber(transcriber)
        self._new_detector = new_detector
        self._clock = clock
        self._recordings: list[RecordingTranscriber] = []

    def submit(self, call: EngineCall) -> None:
        match _requests.decode(call.payload):
            case GetSpeechStats():
                call.send_event(self._stats())
                call.complete()
            case Transcribe() as request:
                expected = request.expected
                self._require_language(expected.language)
                vocabulary = _truncate_vocabulary(expected.vocabulary)
                expected = structs.replace(expected, vocabulary=vocabulary)
                request = structs.replace(request, expected=expected)
                self._recordings.append(
                    RecordingTranscriber(call, request, self._new_detector(), self._clock)
                )

    def _require_language(self, language: str) -> None:
        """Raise InferenceError (`speech_language`) if the model cannot understand the language."""
        if language not in ("", ENGLISH) and not self._span_transcriber.multilingual:
            raise InferenceError(
                f"The speech model {self._name} understands only English. Type the answer, or use "
                "the set standard for your next interview: prep models use standard",
                code=ErrorCode.SPEECH_LANGUAGE,
                retryable=False,
            )

    def run_step(self) -> bool:
        input_remains = False
        for recording in tuple(self._recordings):
            if self._attempt(recording, recording.read_audio):
                input_remains = True
        chosen = select_next([recording.pending_work() for recording in self._recordings])
        if chosen is not None:
            recording = self._recordings[chosen]
            self._attempt(recording, lambda: recording.run_pending(self._span_transcriber))
        for recording in tuple(self._recordings):
            if recording.complete:
                recording.call.send_event(recording.result())
                self._close(recording)
        return input_remains or chosen is not None

    def _attempt(
        self, recording: RecordingTranscriber, work: Callable[[], bool | None]
    ) -> bool | None:
        """Do `work` on one recording and return the result of `work`.

        If the request has ended or was cancelled, or if `work` raises InferenceError, close the
        recording and return False. Other recordings continue.
        """
        try:
            if not recording.call.cancelled and not recording.call.completed:
                return work()
        except InferenceError as error:
            recording.call.fail(error)
        self._close(recording)
        return False

    def _close(self, recording: RecordingTranscriber) -> None:
        recording.call.complete()
        if recording in self._recordings:
            self._recordings.remove(recording)

    def _stats(self) -> SpeechStats:
        lags = [each.caption_lag for each in self._recordings if each.caption_lag is not None]
        return SpeechStats(
            recordings=len(self._recordings),
            waiting=sum(each.queued_spans for each in self._recordings),
            caption_lag=max(lags, default=0.0),
        )


def select_next(pending: Sequence[PendingWork | None]) -> int | None:
    """Return the index of the work to do next, or None if no work is pending.

    The last work on a recording that has ended is done first, because its speaker is waiting and
    each recording has only one such work item. Otherwise the work that has waited longest is done.
    A recording's wait restarts whenever the recording is served, so a long recording that arrives
    all at once takes turns with other recordings.
    """
    waiting = [(not work.last, work.since, n) for n, work in enumerate(pending) if work is not None]
    return min(waiting)[2] if waiting else None


def load(options: Raw) -> tuple[Loaded, WhisperEngine]:
    """Load the model described by the encoded WhisperOptions. Return a payload for the `ReadyFrame`
    and an engine.

    Raises InferenceError, code `model_not_loaded`, if the model cannot be loaded.
    """
    decoded = msgspec.msgpack.decode(options, type=WhisperOptions)
    return Loaded(decoded.binding), WhisperEngine(
        load_transcriber(decoded), name=Path(decoded.path).stem
    )


def _truncate_vocabulary(vocabulary: str) -> str:
    """Return the leading whole words of a vocabulary, up to MAX_VOCABULARY code points."""
    text = " ".join(vocabulary.split())
    return text if len(text) <= MAX_VOCABULARY else text[:MAX_VOCABULARY].rpartition(" ")[0]
