"""A speech model in whisper.cpp, in a process of its own."""

import sys
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from prepserver.ai.values import Caption, Speech
from prepserver.ai.whisper.options import Binding, Recording, WhisperOptions
from prepserver.ai.worker import NATIVE_ENVIRONMENT, Worker
from prepserver.clock import Clock
from prepserver.errors import InferenceError

__all__ = ["WhisperModel"]

_speech: msgspec.msgpack.Decoder[Speech] = msgspec.msgpack.Decoder(Speech)


class WhisperModel:
    """Implements `prepserver.ai.values.SpeechModel`.

    Recordings are written down one at a time, in the order they come.
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

        The engine `whispercpp` takes no vocabulary, and cannot be interrupted: a recording that
        nobody waits for any more holds up the next one. The time-outs are those of `Worker`.
        """
        self._name = path.stem
        self._worker = Worker(
            (sys.executable, "-P", "-m", "prepserver.ai.whisper"),
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

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Speech:
        """Write down PCM16 little-endian, 16 kHz, mono; `vocabulary` names words to expect.

        What was probably invented is in `Speech.dropped`, not in its text; a recording without a
        voice has the text "". Raises InferenceError: `bad_audio`, `request_too_long` (above half
        an hour), or `worker_died`.
        """
        if not pcm or len(pcm) % 2:
            raise InferenceError(
                "The recording is empty or ends within a sample; record it again.",
                code="bad_audio",
                retryable=False,
            )
        async with aclosing(self._worker.request(Recording(pcm, vocabulary))) as events:
            async for event in events:
                return _speech.decode(event)
        raise InferenceError("The speech model gave no answer.")

    async def listen(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[Caption | Speech, None]:
        pcm = b"".join([piece async for piece in audio])
        yield await self.transcribe(pcm, vocabulary)

    async def close(self) -> None:
        await self._worker.close()
