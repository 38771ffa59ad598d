"""Writing down while somebody speaks, through the gateway: what an engine's death may show."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.telemetry.calls import CallRecord
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND, Quota
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, finished, words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
CALL = Call(purpose="transcribe", user="u", interview="i", request="r1")

Hearing = Sequence[PartialTranscript | Transcription | Exception]


def caption(final: str) -> PartialTranscript:
    return PartialTranscript(final=final)


class CuedSpeech(ScriptedSpeechModel):
    """Hears what it is told to, a piece of sound for each; remembers the sound it was given."""

    def __init__(self, clock: ManualClock, hearings: Sequence[Hearing]) -> None:
        super().__init__(clock)
        self.sounds: list[bytes] = []
        self._hearings = list(hearings)

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        hearing, sound = self._hearings.pop(0), len(self.sounds)
        self.sounds.append(b"")
        pieces = aiter(audio)
        for event in hearing:
            self.sounds[sound] += await anext(pieces, b"")
            if isinstance(event, Exception):
                raise event
            yield event


class Unlimited:
    """Counts nothing."""

    async def charge(self, user: str, request: str) -> Quota:
        return await self.quota(user)

    async def quota(self, user: str) -> Quota:
        return Quota(limit=0, remaining=0)


class Source:
    """A recording of numbered pieces; counts how often it was begun and closed."""

    def __init__(self, pieces: int = 9) -> None:
        self.begun = 0
        self.closed = 0
        self._pieces = pieces

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        self.begun += 1
        try:
            for number in range(self._pieces):
                yield b"%d" % number
        finally:
            self.closed += 1


async def heard(
    tmp_path: Path, hearings: Sequence[Hearing], source: Source
) -> tuple[list[PartialTranscript | Transcription], CuedSpeech]:
    """Everything that comes out of one recording."""
    clock = ManualClock()
    model = CuedSpeech(clock, hearings)
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=1)
    gateway = Gateway(CuedLanguage(clock, [words("Fine.")]), model, limiter, clock)
    gateway.start()
    events: list[PartialTranscript | Transcription] = []

    async def collect() -> None:
        async with aclosing(gateway.transcribe_live(CALL, source)) as heard:
            async for event in heard:
                events.append(event)

    try:
        await finished(collect(), clock)
        assert (await limiter.quota("u")).remaining == 0
    finally:
        await gateway.close()
        limiter.close()
    return events, model


@asynchronous
async def test_captions_and_then_the_whole(tmp_path: Path) -> None:
    """As the engine gives them; the recording is charged as one request."""
    source = Source()
    hearing: list[PartialTranscript | Transcription] = [
        caption("One."),
        caption("One. Two."),
        Transcription(text="One. Two. Three."),
    ]
    events, _ = await heard(tmp_path, [hearing], source)
    assert events == hearing
    assert (source.begun, source.closed) == (1, 1)


@asynchronous
async def test_after_a_death_the_recording_starts_anew_and_nothing_is_taken_back(
    tmp_path: Path,
) -> None:
    """The second engine hears everything; what it says less than the first had is held back."""
    source = Source()
    events, model = await heard(
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
    assert events == [
        caption("One."),
        caption("One. Two."),
        caption("One. Two. Three."),
        Transcription(text="All of it."),
    ]
    assert model.sounds == [b"012", b"0123"]
    assert (source.begun, source.closed) == (2, 2)


@asynchronous
async def test_what_would_contradict_a_caption_is_held_back(tmp_path: Path) -> None:
    """Final words stay as they were shown; the whole, at the end, is what counts."""
    events, _ = await heard(
        tmp_path,
        [
            [caption("At Acme."), DIED],
            [caption("At Acme, then."), Transcription(text="At Acme, then more.")],
        ],
        Source(),
    )
    assert events == [caption("At Acme."), Transcription(text="At Acme, then more.")]


@asynchronous
async def test_an_engine_that_dies_every_time_is_an_error_in_the_end(tmp_path: Path) -> None:
    """After as many retries as any other call gets."""
    source = Source()
    with pytest.raises(InferenceError) as told:
        await heard(tmp_path, [[caption("One."), DIED]] * 4, source)
    assert told.value.code == ErrorCode.WORKER_DIED
    assert (source.begun, source.closed) == (4, 4)


@asynchronous
async def test_a_source_that_fails_is_not_the_engines_fault(tmp_path: Path) -> None:
    """Its error comes through as it is, and nothing is tried again."""

    class Broken(Source):
        async def __call__(self) -> AsyncGenerator[bytes, None]:
            self.begun += 1
            yield b"0"
            raise OSError("the disk is gone")

    source = Broken()
    with pytest.raises(OSError, match="the disk is gone"):
        await heard(tmp_path, [[caption("One."), caption("One. Two.")]], source)
    assert source.begun == 1


@asynchronous
async def test_leaving_frees_the_engine_and_the_source(tmp_path: Path) -> None:
    """In the middle of a recording that would go on for ever."""
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
        CuedLanguage(clock, [words("Fine.")]), ScriptedSpeechModel(clock), limiter, clock
    )
    gateway.start()
    async with aclosing(gateway.transcribe_live(CALL, endless)) as events:
        assert isinstance(await anext(events), PartialTranscript)
    assert released.is_set()
    await gateway.close()
    limiter.close()


@asynchronous
async def test_the_worst_lag_of_the_captions_is_recorded() -> None:
    """Sound that had come when a caption was shown, less the sound that it was made from."""
    clock = ManualClock()
    hearing = [
        PartialTranscript(final="a" * n, seconds=n - lag)
        for n, lag in ((1, 0.25), (2, 0.75), (3, 0))
    ]
    model = CuedSpeech(clock, [[*hearing, Transcription(text="All.", seconds=4)]])
    records: list[CallRecord] = []
    gateway = Gateway(
        CuedLanguage(clock, [words("Fine.")]),
        model,
        Unlimited(),
        clock,
        observers=[records.append],
    )
    gateway.start()

    async def second_by_second() -> AsyncGenerator[bytes, None]:
        for _ in range(4):
            yield bytes(BYTES_PER_SECOND)

    async def collect() -> None:
        async for _ in gateway.transcribe_live(CALL, second_by_second):
            pass

    await finished(collect(), clock)
    assert [(record.caption_lag, record.audio) for record in records] == [(0.75, 4.0)]
    await gateway.close()
