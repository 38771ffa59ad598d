"""A speaker, a detector and ears that need no model: what is said is in the samples themselves."""

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
from prepserver.engines.types import PartialTranscript, Transcription, Word
from prepserver.engines.whisper.engine import WhisperEngine
from prepserver.engines.whisper.options import AudioChunk, Transcribe
from prepserver.engines.whisper.transcriber import RawSegment
from prepserver.engines.whisper.voice_activity import CHUNK, VoiceChunk
from prepserver.wire.protocol import SAMPLE_RATE

WORD = 0.32
"""Seconds that each word takes: ten chunks of the detector."""


def said(first: int, count: int) -> NDArray[np.int16]:
    """Words by number, from 1 up: each is its number for a third of a second."""
    numbers = np.arange(first, first + count, dtype=np.int16)
    return np.repeat(numbers, round(WORD * SAMPLE_RATE))


def pause(seconds: float) -> NDArray[np.int16]:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def text(first: int, count: int) -> str:
    """What is written down of it."""
    return " ".join(word(number) for number in range(first, first + count))


@functools.cache
def word(number: int) -> str:
    """As unlike the one before as words are: what counts up is taken for a loop."""
    return hashlib.sha256(str(number).encode()).hexdigest()[: 3 + number % 7]


@dataclass
class Hand:
    """Time that passes when somebody says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class ActedVoice:
    """Whatever is not zero is a voice."""

    def __init__(self) -> None:
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)

    def hear(self, samples: NDArray[np.int16]) -> list[VoiceChunk]:
        samples = np.concatenate((self._rest, samples))
        whole = len(samples) // CHUNK * CHUNK
        self._rest = samples[whole:]
        pieces = (samples[n : n + CHUNK] for n in range(0, whole, CHUNK))
        return [VoiceChunk(float(bool(piece.any())), float(bool(piece.any()))) for piece in pieces]

    def end(self) -> list[VoiceChunk]:
        return self.hear(np.zeros(CHUNK - len(self._rest), np.int16)) if len(self._rest) else []


@dataclass
class ActedEars:
    """Hears the words that are wholly, or more than half, in the samples."""

    clock: Hand
    cost: float = 0.0
    """Seconds that a second of sound takes."""
    heard: list[tuple[int, int, int]] = field(default_factory=list)
    """First word, last word and context of each look."""
    probability: Callable[[int], float] = lambda context: 0.9
    meanwhile: Callable[[], None] = lambda: None
    """What happens while it listens."""

    def hear(
        self,
        samples: NDArray[np.float32],
        *,
        vocabulary: str,
        context: int,
        patient: bool,
        proceed: Callable[[], bool],
    ) -> list[RawSegment] | None:
        self.clock.now += self.cost * len(samples) / SAMPLE_RATE
        self.meanwhile()
        if not proceed():
            return None
        numbers = np.round(samples * 32_768).astype(int)
        edges = np.flatnonzero(np.diff(numbers)) + 1
        runs = [
            (int(numbers[begin]), begin / SAMPLE_RATE, end / SAMPLE_RATE)
            for begin, end in itertools.pairwise([0, *edges.tolist(), len(numbers)])
        ]
        words = [
            Word(start=start, end=end, text=word(number))
            for number, start, end in runs
            if number and end - start >= WORD / 2
        ]
        found = [number for number, start, end in runs if number and end - start >= WORD / 2]
        self.heard.append((found[0] if found else 0, found[-1] if found else 0, context))
        if not found:
            return []
        return [
            RawSegment(
                words[0].start,
                words[-1].end,
                " ".join(word.text for word in words),
                self.probability(context),
                tuple(words),
            )
        ]


class Speaker:
    """One recording, spoken to an engine."""

    def __init__(
        self,
        engine: WhisperEngine,
        number: int = 1,
        *,
        whole: bool = False,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.frames: list[Reply] = []
        self.captions: list[PartialTranscript] = []
        self.lags: list[float] = []
        """Seconds from when the sound of each caption was whole to when it came, on the engine's
        clock, for one who began to speak at 0."""
        self._clock = clock
        self._speech: Transcription | None = None
        self.call = EngineCall(
            RequestFrame(number, encode_payload(Transcribe(whole=whole))), self._take
        )
        engine.submit(self.call)

    def say(self, *samples: NDArray[np.int16]) -> None:
        for begin in range(0, len(whole := np.concatenate(samples)), 640):
            self.call.inputs.append(
                encode_payload(AudioChunk(whole[begin : begin + 640].tobytes()))
            )

    def stop(self) -> None:
        self.call.input_ended = True

    @property
    def speech(self) -> Transcription:
        assert self._speech is not None
        assert isinstance(self.frames[-1], DoneFrame)
        return self._speech

    @property
    def failure(self) -> FailedFrame:
        (failed,) = (frame for frame in self.frames if isinstance(frame, FailedFrame))
        return failed

    def _take(self, frame: Reply) -> None:
        self.frames.append(frame)
        if isinstance(frame, EventFrame):
            event = msgspec.msgpack.decode(frame.payload, type=PartialTranscript | Transcription)
            assert self._speech is None
            if isinstance(event, PartialTranscript):
                self.captions.append(event)
                self.lags.append(self._clock() - event.seconds)
            else:
                self._speech = event


def exhaust(engine: WhisperEngine) -> None:
    """Let it work until there is nothing left to do."""
    for _ in range(10_000):
        if not engine.run_step():
            return
    raise AssertionError("the engine never rests")


def live(
    engine: WhisperEngine,
    clock: Hand,
    scripts: Sequence[tuple[Speaker, NDArray[np.int16]]],
    frame: float = 0.04,
) -> None:
    """All speak at speech pace, while the engine works as fast as its ears' cost allows."""
    offsets = [0] * len(scripts)
    began = clock.now
    while True:
        for n, (speaker, samples) in enumerate(scripts):
            due = min(len(samples), int((clock.now - began) * SAMPLE_RATE))
            if due > offsets[n]:
                speaker.say(samples[offsets[n] : due])
                offsets[n] = due
            if due == len(samples):
                speaker.stop()
        before = clock.now
        worked = engine.run_step()
        if all(speaker.call.completed for speaker, _ in scripts):
            return
        if not worked or clock.now == before:
            clock.now += frame
