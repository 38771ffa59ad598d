"""The speech model's work on all recordings that are open, in the engine's own process."""

import time
from collections.abc import Callable

import msgspec
from msgspec import Raw, structs

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.types import SpeechStats
from prepserver.engines.whisper.loading import loaded
from prepserver.engines.whisper.options import GetSpeechStats, Loaded, Transcribe, WhisperOptions
from prepserver.engines.whisper.recording import RecordingTranscription, VoiceDetector
from prepserver.engines.whisper.scheduler import first
from prepserver.engines.whisper.span_transcriber import SpanTranscriber
from prepserver.engines.whisper.transcriber import Transcriber
from prepserver.engines.whisper.voice_activity import VoiceActivityDetector
from prepserver.errors import InferenceError

__all__ = ["WhisperEngine", "load"]

LONGEST_HINT = 600
"""Code points of vocabulary. Whisper reads at most 224 tokens of it, and the last ones."""

_asked: msgspec.msgpack.Decoder[Transcribe | GetSpeechStats] = msgspec.msgpack.Decoder(
    Transcribe | GetSpeechStats
)


class WhisperEngine:
    """Implements `prepserver.engines.ipc.runner.Engine`: transcribes the spans of all open
    recordings, one at a time."""

    def __init__(
        self,
        ears: Transcriber,
        voice: Callable[[], VoiceDetector] = VoiceActivityDetector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`voice` makes a detector for a recording; `clock` gives seconds that only ever grow."""
        self._hearing = SpanTranscriber(ears)
        self._voice = voice
        self._clock = clock
        self._open: list[RecordingTranscription] = []

    def submit(self, call: EngineCall) -> None:
        match _asked.decode(call.payload):
            case GetSpeechStats():
                call.send_event(self._stats())
                call.complete()
            case Transcribe() as asked:
                asked = structs.replace(asked, vocabulary=_hint(asked.vocabulary))
                self._open.append(RecordingTranscription(call, asked, self._voice(), self._clock))

    def run_step(self) -> bool:
        more = False
        for each in tuple(self._open):
            with_it = self._attempt(each, each.take)
            more = more or bool(with_it)
        turns = [each.turn() for each in self._open]
        chosen = first(turns)
        if chosen is not None:
            listening = self._open[chosen]
            self._attempt(listening, lambda: listening.work(self._hearing))
        for each in tuple(self._open):
            if each.complete:
                each.call.send_event(each.speech())
                self._close(each)
        return more or chosen is not None

    def _attempt(
        self, listening: RecordingTranscription, work: Callable[[], bool | None]
    ) -> bool | None:
        """What fails costs one recording, and leaves the others alone."""
        try:
            if not listening.call.cancelled and not listening.call.completed:
                return work()
        except InferenceError as error:
            listening.call.fail(error)
        self._close(listening)
        return False

    def _close(self, listening: RecordingTranscription) -> None:
        listening.call.complete()
        if listening in self._open:
            self._open.remove(listening)

    def _stats(self) -> SpeechStats:
        lags = [each.lag for each in self._open if each.lag is not None]
        return SpeechStats(
            recordings=len(self._open),
            waiting=sum(each.waiting for each in self._open),
            caption_lag=max(lags, default=0.0),
        )


def load(options: Raw) -> tuple[Loaded, WhisperEngine]:
    """Raises InferenceError, code `model_not_loaded`."""
    wanted = msgspec.msgpack.decode(options, type=WhisperOptions)
    return Loaded(wanted.binding), WhisperEngine(loaded(wanted))


def _hint(vocabulary: str) -> str:
    """Whole words of the vocabulary, as much as whisper reads."""
    hint = " ".join(vocabulary.split())
    return hint if len(hint) <= LONGEST_HINT else hint[:LONGEST_HINT].rpartition(" ")[0]
