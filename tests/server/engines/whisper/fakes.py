"""Speaker, voice activity detector and transcriber without a model.

The samples encode what is spoken: each word is a number, and all samples of the word have that
value plus `LOUD`.
"""

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from prepserver.engines.ipc.frames import (
    DoneFrame,
    EventFrame,
    FailedFrame,
    Reply,
    RequestFrame,
    encode_payload,
)
from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.transcripts import RawSegment
from prepserver.engines.types import ExpectedSpeech, PartialTranscript, Transcription, Word
from prepserver.engines.whisper.engine import WhisperEngine
from prepserver.engines.whisper.options import AudioChunk, Transcribe
from prepserver.engines.whisper.voice_activity import CHUNK, VoiceActivity
from prepserver.wire.protocol import SAMPLE_RATE

LOUD = 4_000
"""Value of the samples of word 0, which is loud enough that nothing is amplified."""
WORD_SECONDS = 0.32
"""Duration of each word in seconds, equal to ten chunks of the detector."""


def speech(first: int, count: int) -> NDArray[np.int16]:
    """Return the samples of `count` consecutive words; `first` is the number of the first word."""
    numbers = np.arange(LOUD + first, LOUD + first + count, dtype=np.int16)
    return np.repeat(numbers, round(WORD_SECONDS * SAMPLE_RATE))


def silence(seconds: float) -> NDArray[np.int16]:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def text(first: int, count: int) -> str:
    """Return the transcript of `speech(first, count)`."""
    return " ".join(word(number) for number in range(first, first + count))


@functools.cache
def word(number: int) -> str:
    """Return a distinct word for each number. The hallucination filter would take plain numbers for
    a repetition."""
    return hashlib.sha256(str(number).encode()).hexdigest()[: 3 + number % 7]


@dataclass
class FakeTime:
    """Clock whose time, in seconds, is the value of `now`."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class FakeDetector:
    """Detector that reports speech in every chunk that contains a nonzero sample."""

    def __init__(self) -> None:
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)

    def detect(self, samples: NDArray[np.int16]) -> list[VoiceActivity]:
        samples = np.concatenate((self._rest, samples))
        whole = len(samples) // CHUNK * CHUNK
        self._rest = samples[whole:]
        chunks = (samples[n : n + CHUNK] for n in range(0, whole, CHUNK))
        return [
            VoiceActivity(float(bool(chunk.any())), float(bool(chunk.any()))) for chunk in chunks
        ]

    def flush(self) -> list[VoiceActivity]:
        return self.detect(np.zeros(CHUNK - len(self._rest), np.int16)) if len(self._rest) else []


@dataclass
class FakeTranscriber:
    """Transcriber that recognises a word if at least half of the word is in the samples."""

    clock: FakeTime
    cost: float = 0.0
    """Seconds of computation for each second of audio."""
    passes: list[tuple[int, int, int]] = field(default_factory=list)
    """Number of the first word, number of the last word, and `audio_ctx` of each completed pass.
    Both numbers are 0 for a pass that recognises no word."""
    probability: Callable[[int], float] = lambda audio_ctx: 0.9
    """Function that returns the probability of a segment for the `audio_ctx` of the pass."""
    during_pass: Callable[[], None] = lambda: None
    """Function that is called in the middle of each pass."""

    languages: Callable[[int], dict[str, float]] | None = None
    """Function that returns the probabilities of languages for speech that begins with the given
    word; None for a model that knows only English."""
    used_languages: list[str] = field(default_factory=list)
    """Language of each pass."""
    detections: list[int] = field(default_factory=list)
    """Number of samples of each detection of the language."""

    @property
    def multilingual(self) -> bool:
        return self.languages is not None

    def detect_language(self, samples: NDArray[np.float32], *, audio_ctx: int) -> dict[str, float]:
        assert self.languages is not None
        self.detections.append(len(samples))
        numbers = np.round(samples * 32_768).astype(int)
        return self.languages(int(numbers[np.flatnonzero(numbers)[0]]) - LOUD)

    def transcribe(
        self,
        samples: NDArray[np.float32],
        *,
        language: str,
        vocabulary: str,
        audio_ctx: int,
        temperature_fallback: bool,
        should_continue: Callable[[], bool],
    ) -> list[RawSegment] | None:
        self.used_languages.append(language)
        self.clock.now += self.cost * len(samples) / SAMPLE_RATE
        self.during_pass()
        if not should_continue():
            return None
        numbers = np.round(samples * 32_768).astype(int)
        edges = np.flatnonzero(np.diff(numbers)) + 1
        runs = [
            (max(0, int(numbers[begin]) - LOUD), begin / SAMPLE_RATE, end / SAMPLE_RATE)
            for begin, end in itertools.pairwise([0, *edges.tolist(), len(numbers)])
        ]
        recognised = [run for run in runs if run[0] and run[2] - run[1] >= WORD_SECONDS / 2]
        if not recognised:
            self.passes.append((0, 0, audio_ctx))
            return []
        self.passes.append((recognised[0][0], recognised[-1][0], audio_ctx))
        words = tuple(
            Word(start=start, end=end, text=word(number)) for number, start, end in recognised
        )
        return [
            RawSegment(
                words[0].start,
                words[-1].end,
                " ".join(each.text for each in words),
                self.probability(audio_ctx),
                words=words,
            )
        ]


class Speaker:
    """Client that sends one recording to an engine and keeps the captions and the transcription."""

    def __init__(
        self,
        engine: WhisperEngine,
        number: int = 1,
        *,
        drafts: bool = True,
        clock: Callable[[], float] = lambda: 0.0,
        language: str = "",
    ) -> None:
        self.frames: list[Reply] = []
        self.captions: list[PartialTranscript] = []
        self.lags: list[float] = []
        """Seconds from the end of the audio that a caption covers to the arrival of the caption,
        for each caption of a recording that began at time 0 of the engine's clock."""
        self._clock = clock
        self._transcription: Transcription | None = None
        transcribe = Transcribe(ExpectedSpeech(language=language), drafts=drafts)
        request = RequestFrame(number, encode_payload(transcribe))
        self.call = EngineCall(request, self._receive)
        engine.submit(self.call)

    def send(self, *samples: NDArray[np.int16]) -> None:
        """Send audio in frames of 40 ms."""
        for begin in range(0, len(whole := np.concatenate(samples)), 640):
            self.call.inputs.append(
                encode_payload(AudioChunk(whole[begin : begin + 640].tobytes()))
            )

    def stop(self) -> None:
        self.call.input_ended = True

    @property
    def transcription(self) -> Transcription:
        assert self._transcription is not None
        assert isinstance(self.frames[-1], DoneFrame)
        return self._transcription

    @property
    def failure(self) -> FailedFrame:
        (failed,) = (frame for frame in self.frames if isinstance(frame, FailedFrame))
        return failed

    def _receive(self, frame: Reply) -> None:
        self.frames.append(frame)
        if isinstance(frame, EventFrame):
            event = msgspec.msgpack.decode(frame.payload, type=PartialTranscript | Transcription)
            assert self._transcription is None
            if isinstance(event, PartialTranscript):
                self.captions.append(event)
                self.lags.append(self._clock() - event.seconds)
            else:
                self._transcription = event


def run_until_idle(engine: WhisperEngine) -> None:
    """Run the engine until no work is left."""
    for _ in range(10_000):
        if not engine.run_step():
            return
    raise AssertionError("the engine never became idle")


def run_live(
    engine: WhisperEngine,
    clock: FakeTime,
    scripts: Sequence[tuple[Speaker, NDArray[np.int16]]],
    frame: float = 0.04,
) -> None:
    """Send all recordings at the pace of the fake clock, and run the engine until all recordings
    are completed."""
    offsets = [0] * len(scripts)
    began = clock.now
    while True:
        for n, (speaker, samples) in enumerate(scripts):
            due = min(len(samples), int((clock.now - began) * SAMPLE_RATE))
            if due > offsets[n]:
                speaker.send(samples[offsets[n] : due])
                offsets[n] = due
            if due == len(samples):
                speaker.stop()
        before = clock.now
        worked = engine.run_step()
        if all(speaker.call.completed for speaker, _ in scripts):
            return
        if not worked or clock.now == before:
            clock.now += frame
