"""A speech model behind an OpenAI-compatible endpoint."""

import io
import math
import wave
from collections.abc import AsyncGenerator, AsyncIterable

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from prepserver.engines.gain import amplify
from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.error_responses import bad_reply
from prepserver.engines.openai.served_models import find_model
from prepserver.engines.transcripts import RawSegment, confidence, filter_hallucinations
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    Segment,
    SpeechStats,
    Transcription,
    Word,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND, SAMPLE_RATE

__all__ = ["OpenAISpeechModel"]

READ_TIMEOUT = 300.0
"""Maximum number of seconds without data from the endpoint, which responds only after it has
transcribed the whole recording."""
SILENCE_PEAK = 10
"""Absolute peak of 16-bit samples below which a recording counts as silent. Such a recording has no
more than the noise of a muted microphone."""
NO_SPEECH_PROBABILITY, NO_SPEECH_MEAN = 0.6, 0.37
"""Probability of silence from which, and mean token probability below which, a segment is taken for
noise. The values are Whisper's own."""


class _Segment(Struct):
    start: float
    end: float
    text: str
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    temperature: float | None = None


class _TimedWord(Struct):
    word: str
    start: float
    end: float


class _Response(Struct):
    text: str
    segments: list[_Segment] | None = None
    words: list[_TimedWord] | None = None
    language: str | None = None


class OpenAISpeechModel:
    """Remote speech model; implements `prepserver.engines.types.SpeechModel`.

    The protocol transcribes complete recordings only, so there are no captions.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Configure the client; nothing is sent yet. Raises BadRequest if the key is malformed."""
        self._client = EndpointClient(endpoint, key, read_timeout=READ_TIMEOUT, transport=transport)
        self._model = endpoint.model
        self._verbose = True
        """True until the endpoint rejects a request for timestamps."""

    @property
    def name(self) -> str:
        """Name of the model at the endpoint; empty while no model is configured and `start` has not
        found one."""
        return self._model

    async def start(self) -> None:
        """Check that the endpoint is available, and find the model's name.

        Raises InferenceError.
        """
        self._model = (await find_model(self._client)).id

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        """Transcribe a recording of PCM16 little-endian, 16 kHz, mono.

        The endpoint detects the language; the expected language is not sent. Probable
        hallucinations go to `Transcription.dropped`; unlikely text is detected only if the endpoint
        reports probabilities. A silent recording is not sent. Raises InferenceError.
        """
        if not pcm or len(pcm) % 2:
            raise InferenceError(
                "The recording is empty or ends with an incomplete sample. Record it again.",
                code=ErrorCode.BAD_AUDIO,
                retryable=False,
            )
        seconds = len(pcm) / BYTES_PER_SECOND
        samples = np.frombuffer(pcm, dtype="<i2")
        if samples.max() < SILENCE_PEAK and samples.min() > -SILENCE_PEAK:
            silence = Segment(start=0.0, end=seconds, text="", drop_reason="silence")
            return Transcription(text="", dropped=(silence,), seconds=seconds)
        loud = amplify(samples).astype("<i2").tobytes()
        response = await self._request_transcription(loud, expected.vocabulary)
        kept, dropped = filter_hallucinations(_raw_segments(response, seconds))
        kept = tuple(_with_words(segment, response.words or []) for segment in kept)
        return Transcription(
            text=" ".join(segment.text for segment in kept),
            segments=kept,
            dropped=dropped,
            seconds=seconds,
            confidence=confidence([*kept, *dropped]),
            language=response.language or "",
        )

    async def _request_transcription(self, pcm: bytes, vocabulary: str) -> _Response:
        fields: dict[str, str | list[str]]
        # Without the field `language`, the endpoint detects the language. With the field, Whisper
        # translates speech in other languages.
        fields = {"model": self._model, "temperature": "0"}
        if vocabulary:
            fields["prompt"] = vocabulary
        files = {"file": ("answer.wav", _to_wav(pcm), "audio/wav")}
        if self._verbose:
            verbose: dict[str, str | list[str]] = {
                "response_format": "verbose_json",
                "timestamp_granularities[]": ["word", "segment"],
            }
            try:
                return await self._post(fields | verbose, files)
            except InferenceError as error:
                # Some models return no timestamps.
                if error.code != ErrorCode.ENDPOINT_REFUSED:
                    raise
                self._verbose = False
        return await self._post(fields | {"response_format": "json"}, files)

    async def _post(
        self, fields: dict[str, str | list[str]], files: dict[str, tuple[str, bytes, str]]
    ) -> _Response:
        body = await self._client.post_form("/audio/transcriptions", fields, files)
        try:
            return msgspec.json.decode(body, type=_Response)
        except msgspec.DecodeError as error:
            raise bad_reply("it is not a transcription") from error

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Yield one Transcription after the recording has ended.

        Raises InferenceError, and whatever `audio` raises.
        """
        pcm = b"".join([piece async for piece in audio])
        yield await self.transcribe(pcm, expected)

    async def stats(self) -> SpeechStats:
        """Return zeros: the endpoint's load is unknown."""
        return SpeechStats()

    async def close(self) -> None:
        await self._client.close()


def _to_wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(pcm)
    return file.getvalue()


def _raw_segments(response: _Response, seconds: float) -> list[RawSegment]:
    """Return the segments of a response. A response without segments gives one segment with the
    whole text."""
    if not response.segments:
        return [RawSegment(0.0, seconds, response.text, 1.0)]
    return [_raw_segment(segment) for segment in response.segments]


def _raw_segment(segment: _Segment) -> RawSegment:
    logprob = segment.avg_logprob
    probability = 1.0 if logprob is None else math.exp(min(0.0, logprob))
    silence = (segment.no_speech_prob or 0.0) > NO_SPEECH_PROBABILITY
    return RawSegment(
        segment.start,
        segment.end,
        "" if silence and probability < NO_SPEECH_MEAN else segment.text,
        probability,
        sampled=bool(segment.temperature),
    )


def _with_words(segment: Segment, words: list[_TimedWord]) -> Segment:
    """Return a copy of the segment with the `words` that begin within the segment's time range."""
    inside = tuple(
        Word(start=word.start, end=word.end, text=word.word.strip())
        for word in words
        if segment.start <= word.start < segment.end
    )
    return msgspec.structs.replace(segment, words=inside)
