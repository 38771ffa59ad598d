"""Live transcription through the gateway, even if the engine dies during a recording."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    PartialTranscript,
    Transcription,
)
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.telemetry.calls import CallRecord
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND, Quota
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, advance_until_done, one_set, split_words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
CALL = Call(purpose="transcribe", user="u", interview="i", request="r1")

Events = Sequence[PartialTranscript | Transcription | Exception]


def caption(final: str) -> PartialTranscript:
    return PartialTranscript(final=final)


class CuedSpeechModel(ScriptedSpeechModel):
    """Speech model that records the audio of each call and yields prescribed events, one after each
    chunk."""

    def __init__(self, clock: ManualClock, calls: Sequence[Events]) -> None:
        super().__init__(clock)
        self.received: list[bytes] = []
        """Audio that each call has received."""
        self._calls = list(calls)

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        call, number = self._calls.pop(0), len(self.received)
        self.received.append(b"")
        chunks = aiter(audio)
        for event in call:
            self.received[number] += await anext(chunks, b"")
            if isinstance(event, Exception):
                raise event
            yield event


class Unlimited:
    """Rate limiter without a limit."""

    async def charge(self, user: str, request: str) -> Quota:
        return await self.quota(user)

    async def quota(self, user: str) -> Quota:
        return Quota(limit=0, remaining=0)


class AudioSource:
    """Recording of numbered chunks, with counts of how often it was opened and closed."""

    def __init__(self, chunks: int = 9) -> None:
        self.opened = 0
        self.closed = 0
        self._chunks = chunks

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        self.opened += 1
        try:
            for number in range(self._chunks):
                yield b"%d" % number
        finally:
            self.closed += 1


async def transcribe_live(
    tmp_path: Path, calls: Sequence[Events], source: AudioSource
) -> tuple[list[PartialTranscript | Transcription], CuedSpeechModel]:
    """Transcribe one recording through a gateway, check that the recording is charged as one
    request, and return the events and the model."""
    clock = ManualClock()
    model = CuedSpeechModel(clock, calls)
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=1)
    gateway = Gateway(
        one_set(CuedLanguageModel(clock, [split_words("Fine.")]), model), limiter, clock
    )
    gateway.start()
    received: list[PartialTranscript | Transcription] = []

    async def collect() -> None:
        async with aclosing(gateway.transcribe_live(CALL, source)) as events:
            async for event in events:
                received.append(event)

    try:
        await advance_until_done(collect(), clock)
        assert (await limiter.quota("u")).remaining == 0
    finally:
        await gateway.close()
        limiter.close()
    return received, model


@asynchronous
async def test_captions_are_followed_by_the_transcription(tmp_path: Path) -> None:
    """The gateway passes captions and the transcription on unchanged, and charges the recording as
    one request."""
    source = AudioSource()
    events: list[PartialTranscript | Transcription] = [
        caption("One."),
        caption("One. Two."),
        Transcription(text="One. Two. Three."),
    ]
    received, _ = await transcribe_live(tmp_path, [events], source)
    assert received == events
    assert (source.opened, source.closed) == (1, 1)


@asynchronous
async def test_after_an_engines_death_captions_never_shrink(tmp_path: Path) -> None:
    """After an engine dies, the new engine receives the recording from its start, and captions
    shorter than the last caption are suppressed."""
    source = AudioSource()
    received, model = await transcribe_live(
        tmp_path,
        [
            [caption("One."), caption("One. Two."), DIED],
            [
                caption(""),
                caption("One."),
                caption("One. Two. Three."),
                Transcription(text="All of it."),
            ],
        ],
        source,
    )
    assert received == [
        caption("One."),
        caption("One. Two."),
        caption("One. Two. Three."),
        Transcription(text="All of it."),
    ]
    assert model.received == [b"012", b"0123"]
    assert (source.opened, source.closed) == (2, 2)


@asynchronous
async def test_captions_that_contradict_an_earlier_one_are_suppressed(tmp_path: Path) -> None:
    """A caption that contradicts the final text of an earlier caption is suppressed; the
    transcription is passed on unchanged."""
    received, _ = await transcribe_live(
        tmp_path,
        [
            [caption("At Acme."), DIED],
            [caption("At Acme, then."), Transcription(text="At Acme, then more.")],
        ],
        AudioSource(),
    )
    assert received == [caption("At Acme."), Transcription(text="At Acme, then more.")]


@asynchronous
async def test_an_engine_that_dies_at_every_attempt_raises_its_error(tmp_path: Path) -> None:
    """A live transcription whose engine dies at every attempt raises the engine's error after three
    retries."""
    source = AudioSource()
    with pytest.raises(InferenceError) as error:
        await transcribe_live(tmp_path, [[caption("One."), DIED]] * 4, source)
    assert error.value.code == ErrorCode.WORKER_DIED
    assert (source.opened, source.closed) == (4, 4)


@asynchronous
async def test_an_error_of_the_audio_source_is_not_retried(tmp_path: Path) -> None:
    """An error of the audio source is raised unchanged, and the transcription is not retried."""

    class FailingSource(AudioSource):
        async def __call__(self) -> AsyncGenerator[bytes, None]:
            self.opened += 1
            yield b"0"
            raise OSError("the disk is gone")

    source = FailingSource()
    with pytest.raises(OSError, match="the disk is gone"):
        await transcribe_live(tmp_path, [[caption("One."), caption("One. Two.")]], source)
    assert source.opened == 1


@asynchronous
async def test_closing_the_stream_frees_the_engine_and_the_source(tmp_path: Path) -> None:
    """Closing the stream during an endless recording frees the engine and closes the source."""
    clock = ManualClock()
    released = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(32_000)
        finally:
            released.set()

    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(
        one_set(CuedLanguageModel(clock, [split_words("Fine.")]), ScriptedSpeechModel(clock)),
        limiter,
        clock,
    )
    gateway.start()
    async with aclosing(gateway.transcribe_live(CALL, endless)) as events:
        assert isinstance(await anext(events), PartialTranscript)
    assert released.is_set()
    await gateway.close()
    limiter.close()


@asynchronous
async def test_the_largest_caption_lag_is_recorded() -> None:
    """The call record contains the largest caption lag: the seconds of audio received but not yet
    covered by a caption."""
    clock = ManualClock()
    captions = [
        PartialTranscript(final="a" * n, seconds=n - lag)
        for n, lag in ((1, 0.25), (2, 0.75), (3, 0))
    ]
    model = CuedSpeechModel(clock, [[*captions, Transcription(text="All.", seconds=4)]])
    records: list[CallRecord] = []
    gateway = Gateway(
        one_set(CuedLanguageModel(clock, [split_words("Fine.")]), model),
        Unlimited(),
        clock,
        observers=[records.append],
    )
    gateway.start()

    async def four_seconds() -> AsyncGenerator[bytes, None]:
        for _ in range(4):
            yield bytes(BYTES_PER_SECOND)

    async def collect() -> None:
        async for _ in gateway.transcribe_live(CALL, four_seconds):
            pass

    await advance_until_done(collect(), clock)
    assert [(record.caption_lag, record.audio) for record in records] == [(0.75, 4.0)]
    await gateway.close()
