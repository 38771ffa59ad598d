"""Calls of the speech models."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from prepserver.clock import Clock
from prepserver.engines.types import PartialTranscript, Priority, SpeechModel, Transcription
from prepserver.gateway.fallback import FallbackChain
from prepserver.gateway.feed import AudioFeed
from prepserver.gateway.usage import UsageMeter
from prepserver.telemetry.calls import Call, CallRecord
from prepserver.telemetry.recorder import Recorder

__all__ = ["SpeechGateway"]


class SpeechGateway:
    """The half of the gateway that listens."""

    def __init__(
        self,
        chain: FallbackChain[SpeechModel],
        account: UsageMeter,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self.chain = chain
        self._account = account
        self._recorder = recorder
        self._clock = clock

    async def transcribe(self, call: Call, pcm: bytes, vocabulary: str = "") -> Transcription:
        """Write down a recording (PCM16 little-endian, 16 kHz, mono).

        Raises RateLimited, InferenceError.
        """

        async def written(model: SpeechModel) -> AsyncGenerator[Transcription, None]:
            yield await model.transcribe(pcm, vocabulary)

        with self._recorder.recording(call, "transcribe", vocabulary) as entry:
            await self._account.charge(call)
            async with aclosing(self.chain.run(written, entry.effort, Priority.ANSWER)) as events:
                speech = await anext(events)
            _note(entry.record, speech)
            assert entry.effort.begun is not None
            entry.record.compute = self._clock.monotonic() - entry.effort.begun
            await self._account.bill(call.user, 0, entry.record.compute)
            return speech

    async def transcribe_live(
        self, call: Call, audio: Callable[[], AsyncIterable[bytes]], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Write down while it is spoken: captions, then one Speech.

        `audio()` gives the recording from its beginning, as far as there is, and then what comes
        until it ends. It is asked again when the engine dies; captions that say less than was
        said already, or otherwise, are then held back, and the Speech is what counts.
        Raises RateLimited, InferenceError, and what the source raises.
        """
        feeds: list[AudioFeed] = []

        async def heard(
            model: SpeechModel,
        ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
            feeds.append(AudioFeed(audio(), self._clock))
            async with (
                aclosing(feeds[-1].pieces()) as pieces,
                aclosing(model.transcribe_live(pieces, vocabulary)) as events,
            ):
                async for event in events:
                    yield event

        with self._recorder.recording(call, "listen", vocabulary) as entry:
            await self._account.charge(call)
            final, failed = "", False
            events = self.chain.run(heard, entry.effort, Priority.ANSWER, repeatable=True)
            try:
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, Transcription):
                            _note(entry.record, event)
                            if feeds[-1].ended is not None:
                                entry.record.lag = self._clock.monotonic() - feeds[-1].ended
                        elif event.final.startswith(final):
                            final = event.final
                            if event.seconds:
                                lag = feeds[-1].seconds - event.seconds
                                entry.record.caption_lag = max(entry.record.caption_lag or 0, lag)
                        else:
                            continue
                        yield event
            except Exception:
                failed = True
                raise
            finally:
                # How long the engine worked for this speaker among others is not known; no longer
                # than they spoke, or it would not keep up.
                longest = max((feed.seconds for feed in feeds), default=0.0)
                entry.record.audio = entry.record.compute = longest
                if not failed:
                    await self._account.bill(call.user, 0, longest)


def _note(record: CallRecord, speech: Transcription) -> None:
    record.audio = speech.seconds
    if record.reply is not None:
        record.reply = speech.text
