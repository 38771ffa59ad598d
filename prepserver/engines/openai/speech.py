"""A speech model behind an OpenAI-compatible endpoint."""

import io
import math
import wave
from collections.abc import AsyncGenerator, AsyncIterable

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.events import bad_reply
from prepserver.engines.openai.served import look_up
from prepserver.engines.transcripts import filter_hallucinations
from prepserver.engines.types import PartialTranscript, Segment, SpeechStats, Transcription, Word
from prepserver.engines.whisper.transcriber import RawSegment
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND, SAMPLE_RATE

__all__ = ["OpenAISpeechModel"]

SILENCE = 300.0
"""Seconds without a byte after which the endpoint is given up: it writes down everything first."""
QUIET = 200
"""Peak of 16-bit samples below which nobody spoke: whisper invents text for it."""


class _Segment(Struct):
    start: float
    end: float
    text: str
    avg_logprob: float | None = None


class _TimedWord(Struct):
    word: str
    start: float
    end: float


class _Transcription(Struct):
    text: str
    segments: list[_Segment] | None = None
    words: list[_TimedWord] | None = None


class OpenAISpeechModel:
    """Implements `prepserver.engines.types.SpeechModel`.

    The protocol takes whole recordings, so there are no captions while somebody speaks.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Raises BadRequest for a key that cannot be one."""
        self._connection = EndpointClient(endpoint, key, silence=SILENCE, transport=transport)
        self._model = endpoint.model
        self._detailed = True

    @property
    def name(self) -> str:
        """Of the model, as the endpoint calls it; empty until that is known."""
        return self._model

    async def start(self) -> None:
        """See that the endpoint is there. Raises InferenceError."""
        self._model = (await look_up(self._connection)).id

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Transcription:
        """Write down PCM16 little-endian, 16 kHz, mono; `vocabulary` names words to expect.

        Probable hallucinations go to `Transcription.dropped`, as far as the endpoint reports its
        confidence. Raises InferenceError.
        """
        if not pcm or len(pcm) % 2:
            raise InferenceError(
                "The recording is empty or ends within a sample; record it again.",
                code=ErrorCode.BAD_AUDIO,
                retryable=False,
            )
        seconds = len(pcm) / BYTES_PER_SECOND
        samples = np.frombuffer(pcm, dtype="<i2")
        if samples.max() < QUIET and samples.min() > -QUIET:
            silence = Segment(start=0.0, end=seconds, text="", drop_reason="silence")
            return Transcription(text="", dropped=(silence,), seconds=seconds)
        heard = await self._ask(pcm, vocabulary)
        kept, dropped = filter_hallucinations(_heard(heard, seconds))
        kept = tuple(_with_words(segment, heard.words or []) for segment in kept)
        return Transcription(
            text=" ".join(segment.text for segment in kept),
            segments=kept,
            dropped=dropped,
            seconds=seconds,
        )

    async def _ask(self, pcm: bytes, vocabulary: str) -> _Transcription:
        fields: dict[str, str | list[str]]
        fields = {"model": self._model, "language": "en", "temperature": "0"}
        if vocabulary:
            fields["prompt"] = vocabulary
        files = {"file": ("answer.wav", _wav(pcm), "audio/wav")}
        if self._detailed:
            more: dict[str, str | list[str]] = {
                "response_format": "verbose_json",
                "timestamp_granularities[]": ["word", "segment"],
            }
            try:
                return await self._post(fields | more, files)
            except InferenceError as error:
                # Not every model can say when each word was spoken.
                if error.code != ErrorCode.ENDPOINT_REFUSED:
                    raise
                self._detailed = False
        return await self._post(fields | {"response_format": "json"}, files)

    async def _post(
        self, fields: dict[str, str | list[str]], files: dict[str, tuple[str, bytes, str]]
    ) -> _Transcription:
        answer = await self._connection.post("/audio/transcriptions", fields, files)
        try:
            return msgspec.json.decode(answer, type=_Transcription)
        except msgspec.DecodeError as error:
            raise bad_reply("it is no transcription") from error

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """One Speech, when the recording has ended."""
        pcm = b"".join([piece async for piece in audio])
        yield await self.transcribe(pcm, vocabulary)

    async def stats(self) -> SpeechStats:
        """All zero: what the endpoint does is not known."""
        return SpeechStats()

    async def close(self) -> None:
        await self._connection.close()


def _wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(pcm)
    return file.getvalue()


def _heard(answer: _Transcription, seconds: float) -> list[RawSegment]:
    """The segments; one for everything when there are none."""
    if not answer.segments:
        return [RawSegment(0.0, seconds, answer.text, 1.0)]
    return [
        RawSegment(
            each.start,
            each.end,
            each.text,
            1.0 if each.avg_logprob is None else math.exp(min(0.0, each.avg_logprob)),
        )
        for each in answer.segments
    ]


def _with_words(segment: Segment, words: list[_TimedWord]) -> Segment:
    """Each word belongs to the segment that it begins in."""
    inside = tuple(
        Word(start=word.start, end=word.end, text=word.word.strip())
        for word in words
        if segment.start <= word.start < segment.end
    )
    return msgspec.structs.replace(segment, words=inside)
