"""The server's client for whisper.cpp, which runs in a process of its own."""

import sys
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from prepserver.clock import Clock
from prepserver.engines.ipc.supervisor import NATIVE_ENVIRONMENT, EngineSupervisor
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    SpeechStats,
    Transcription,
)
from prepserver.engines.whisper.options import (
    MAX_SECONDS,
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

MAX_CHUNK_BYTES = BYTES_PER_SECOND
"""Maximum size of an `AudioChunk` in bytes: one second of audio."""

_events: msgspec.msgpack.Decoder[PartialTranscript | Transcription] = msgspec.msgpack.Decoder(
    PartialTranscript | Transcription
)
_stats: msgspec.msgpack.Decoder[SpeechStats] = msgspec.msgpack.Decoder(SpeechStats)


class WhisperModel:
    """Speech model run by whisper.cpp; implements `prepserver.engines.types.SpeechModel`.

    Several recordings are transcribed concurrently, one span at a time; `select_next` in
    `prepserver.engines.whisper.engine` chooses the recording to serve next.
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
        """Configure the engine without starting it.

        `path` is a ggml .bin file. If `n_threads` is 0, there is one thread for each core that the
        process may use. The engine `whispercpp` ignores the vocabulary and cannot be interrupted: a
        cancelled recording delays the next recording. The timeouts are those of `EngineSupervisor`.
        """
        self._name = path.stem
        self._supervisor = EngineSupervisor(
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
        """Process id of the engine; None unless the engine is loaded and running."""
        return self._supervisor.pid

    async def start(self) -> None:
        """Load the model unless it is already loaded.

        Raises InferenceError with the code `model_not_loaded`, `worker_died` or `worker_closed`.
        """
        await self._supervisor.start()

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        """Transcribe a recording of PCM16 little-endian, 16 kHz, mono.

        Probable hallucinations go to `Transcription.dropped`
        and are left out of the text; the text of a recording without speech is "". Raises
        InferenceError with the code `bad_audio`, `request_too_long` (over half an hour),
        `transcription_failed`, or a code that `start` raises.
        """
        if not pcm:
            raise _bad_audio("is empty")
        request = self._request(Transcribe(expected, drafts=False), _single(pcm))
        async with aclosing(request) as events:
            async for event in events:
                if isinstance(event, Transcription):
                    return event
        raise InferenceError("The speech model returned no transcript. Try again.")

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Yield captions of a recording while it arrives, then one Transcription.

        While the machine keeps up, a caption follows each 0.7 s of new speech, each short pause,
        and each finished span except the last. Raises the errors of `transcribe`, and whatever
        `audio` raises. After the error `worker_died`, the whole recording must be sent again.
        """
        async with aclosing(self._request(Transcribe(expected), audio)) as events:
            async for event in events:
                yield event

    async def _request(
        self, request: Transcribe, audio: AsyncIterable[bytes]
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        async with aclosing(self._supervisor.request(request, inputs=_to_chunks(audio))) as events:
            async for event in events:
                yield _events.decode(event)

    async def stats(self) -> SpeechStats:
        """Return the engine's load; all values are zero if the engine is not running. Raises
        InferenceError."""
        if self._supervisor.pid is None:
            return SpeechStats()
        async with aclosing(self._supervisor.request(GetSpeechStats())) as events:
            async for event in events:
                return _stats.decode(event)
        return SpeechStats()

    async def close(self) -> None:
        await self._supervisor.close()


async def _single(pcm: bytes) -> AsyncGenerator[bytes, None]:
    yield pcm


async def _to_chunks(audio: AsyncIterable[bytes]) -> AsyncGenerator[AudioChunk, None]:
    """Yield the audio in chunks of whole samples, each of at most one second.

    Raises InferenceError, code `bad_audio` or `request_too_long`.
    """
    rest, length = b"", 0
    async for piece in audio:
        length += len(piece)
        if length > MAX_SECONDS * BYTES_PER_SECOND:
            raise InferenceError(
                f"The recording is longer than {MAX_SECONDS // 60} minutes, the maximum. Split it "
                "into shorter recordings.",
                code=ErrorCode.REQUEST_TOO_LONG,
                retryable=False,
            )
        data = rest + piece
        whole = len(data) // 2 * 2
        rest = data[whole:]
        for begin in range(0, whole, MAX_CHUNK_BYTES):
            yield AudioChunk(data[begin : min(whole, begin + MAX_CHUNK_BYTES)])
    if rest:
        raise _bad_audio("ends with an incomplete sample")


def _bad_audio(problem: str) -> InferenceError:
    return InferenceError(
        f"The recording {problem}. Record it again.", code=ErrorCode.BAD_AUDIO, retryable=False
    )
