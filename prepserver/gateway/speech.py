"""Gateway for speech models: calls that transcribe recordings, whole or while they arrive."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from prepserver.clock import Clock
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    Priority,
    SpeechModel,
    Transcription,
)
from prepserver.gateway.pool import ModelPool
from prepserver.gateway.usage import UsageMeter
from prepserver.telemetry.calls import Call, CallRecord
from prepserver.telemetry.recorder import Recorder
from prepserver.wire.protocol import BYTES_PER_SECOND

__all__ = ["SpeechGateway"]


class SpeechGateway:
    """Path of every call to a speech model: accounting, fallback and telemetry."""

    def __init__(
        self,
        pool: ModelPool,
        usage: UsageMeter,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._usage = usage
        self._recorder = recorder
        self._clock = clock

    async def transcribe(
        self, call: Call, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        """Transcribe a recording (PCM16 little-endian, 16 kHz, mono).

        Raises RateLimited or InferenceError.
        """

        async def request(model: SpeechModel) -> AsyncGenerator[Transcription, None]:
            yield await model.transcribe(pcm, expected)

        with self._recorder.record_call(call, "transcribe", expected.vocabulary) as open_call:
            record, stats = open_call.record, open_call.stats
            await self._usage.charge_request(call)
            async with (
                self._pool.use(call.model_set) as models,
                aclosing(models.speech.stream(request, stats, Priority.ANSWER)) as events,
            ):
                transcription = await anext(events)
            _record_transcription(record, transcription)
            assert stats.started_at is not None
            record.compute = self._clock.monotonic() - stats.started_at
            await self._usage.record_usage(call.user, 0, record.compute)
            return transcription

    async def transcribe_live(
        self,
        call: Call,
        audio: Callable[[], AsyncIterable[bytes]],
        expected: ExpectedSpeech = NOTHING_EXPECTED,
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Yield captions of a recording while it arrives, then one Transcription.

        `audio()` returns the recording from its beginning: first the stored part, then new audio
        until the recording ends. `audio` is called again for each retry and for each fallback
        model. Captions that would shorten or contradict the final text already yielded are then
        suppressed, and the Transcription is authoritative. Raises RateLimited or InferenceError.
        Errors of the audio source are passed on.
        """
        feeds: list[_AudioFeed] = []

        async def request(
            model: SpeechModel,
        ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
            feeds.append(_AudioFeed(audio(), self._clock))
            async with (
                aclosing(feeds[-1].chunks()) as chunks,
                aclosing(model.transcribe_live(chunks, expected)) as events,
            ):
                async for event in events:
                    yield event

        with self._recorder.record_call(call, "transcribe_live", expected.vocabulary) as open_call:
            record = open_call.record
            await self._usage.charge_request(call)
            final, failed = "", False
            try:
                async with (
                    self._pool.use(call.model_set) as models,
                    aclosing(
                        models.speech.stream(
                            request, open_call.stats, Priority.ANSWER, repeatable=True
                        )
                    ) as events,
                ):
                    async for event in events:
                        if isinstance(event, Transcription):
                            _record_transcription(record, event)
                            if feeds[-1].ended_at is not None:
                                record.transcript_lag = self._clock.monotonic() - feeds[-1].ended_at
                        elif event.final.startswith(final):
                            final = event.final
                            if event.seconds:
                                lag = feeds[-1].seconds - event.seconds
                                record.caption_lag = max(record.caption_lag or 0, lag)
                        else:
                            continue
                        yield event
            except Exception:
                failed = True
                raise
            finally:
                # The engine's compute time for this recording is unknown. The duration of the
                # audio is an upper bound while the engine keeps up.
                seconds = max((feed.seconds for feed in feeds), default=0.0)
                record.audio = record.compute = seconds
                if not failed:
                    await self._usage.record_usage(call.user, 0, seconds)


class _AudioFeed:
    """Audio source that counts the bytes of another source and closes that source at the end."""

    def __init__(self, source: AsyncIterable[bytes], clock: Clock) -> None:
        self.ended_at: float | None = None
        """Monotonic time, in seconds, at which the source was exhausted; None before the end."""
        self._source = source
        self._clock = clock
        self._bytes = 0

    @property
    def seconds(self) -> float:
        """Seconds of audio received so far."""
        return self._bytes / BYTES_PER_SECOND

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._source:
                self._bytes += len(chunk)
                yield chunk
            self.ended_at = self._clock.monotonic()
        finally:
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()


def _record_transcription(record: CallRecord, transcription: Transcription) -> None:
    record.audio = transcription.seconds
    if record.reply is not None:
        record.reply = transcription.text
