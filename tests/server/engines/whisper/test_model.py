"""The starter ears, for real, in their own process, on recordings whose words are known."""

import asyncio
import importlib.util
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import Raw

from prepserver.clock import SystemClock
from prepserver.engines.types import PartialTranscript, SpeechStats, Transcription
from prepserver.engines.whisper.engine import load
from prepserver.engines.whisper.model import WhisperModel
from prepserver.engines.whisper.options import Binding, WhisperOptions
from prepserver.errors import InferenceError
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.server.engines.whisper.sounds import spoken, unspoken, words_of
from tests.support.wer import normalised, wer

pytestmark = pytest.mark.models

BOUND = 0.2
"""Word error rate."""
RECORDINGS = ("payments-migration", "event-sourcing", "conflict", "short-answer")


def pcm(name: str) -> bytes:
    return spoken(name).tobytes()


def run(
    models_dir: Path,
    scenario: Callable[[WhisperModel], Awaitable[None]],
    engine: Binding = "pywhispercpp",
) -> None:
    async def with_model() -> None:
        model = WhisperModel(models_dir / "whisper-tiny.en.bin", SystemClock(), engine=engine)
        try:
            await model.start()
            await scenario(model)
        finally:
            await model.close()

    asyncio.run(with_model())


def test_every_recording_is_written_down(models_dir: Path) -> None:
    """Under a fifth of the words wrong in each; segments in order within the recording."""

    async def scenario(model: WhisperModel) -> None:
        words = words_of()
        assert set(words) == set(RECORDINGS)
        for name in RECORDINGS:
            recording = pcm(name)
            speech = await model.transcribe(recording)
            assert wer(words[name], speech.text) < BOUND, speech.text
            assert speech.seconds == len(recording) / BYTES_PER_SECOND
            times = [t for segment in speech.segments for t in (segment.start, segment.end)]
            assert times == sorted(times)
            assert 0 <= times[0] < times[-1] <= speech.seconds
            assert all(0.35 <= segment.probability <= 1 for segment in speech.segments)
            assert speech.text == " ".join(segment.text for segment in speech.segments)

    run(models_dir, scenario)


def test_nothing_is_invented_where_nobody_speaks(models_dir: Path) -> None:
    """Silence, noise, hum, beeps, music, clicks and breath have no words in the transcript."""

    async def scenario(model: WhisperModel) -> None:
        sounds = {**unspoken(12.0), "one sample": np.zeros(1, "<i2")}
        invented = {}
        for name, samples in sounds.items():
            speech = await model.transcribe(samples.tobytes())
            assert speech.dropped, name
            assert speech.seconds == len(samples) / 16_000
            if speech.text or speech.segments:
                invented[name] = speech.text
        assert invented == {}

    run(models_dir, scenario)


def test_long_silence_around_and_within_a_recording_adds_nothing(models_dir: Path) -> None:
    """More than a minute, several windows: the words, and times that are the recording's own."""

    async def scenario(model: WhisperModel) -> None:
        silence = bytes(9 * BYTES_PER_SECOND)
        names = ("short-answer", "conflict", "event-sourcing", "short-answer")
        recordings = [pcm(name) for name in names]
        audio = silence + b"".join(recording + silence for recording in recordings)
        speech = await model.transcribe(audio)
        words = words_of()
        assert wer(" ".join(words[name] for name in names), speech.text) < BOUND, speech.text
        begins = 9.0
        for recording in recordings:
            ends = begins + len(recording) / BYTES_PER_SECOND
            assert any(begins - 0.5 <= segment.start < ends for segment in speech.segments)
            begins = ends + 9.0
        assert speech.segments[0].start >= 8.5

    run(models_dir, scenario)


def test_words_have_times(models_dir: Path) -> None:
    """Every word of the text, in order, within its segment; the last one near the end of speech."""

    async def scenario(model: WhisperModel) -> None:
        silence = bytes(2 * BYTES_PER_SECOND)
        speech = await model.transcribe(silence + pcm("short-answer") + silence)
        words = [word for segment in speech.segments for word in segment.words]
        assert " ".join(word.text for word in words) == speech.text
        times = [t for word in words for t in (word.start, word.end)]
        assert times == sorted(times)
        assert 1.6 <= words[0].start <= 2.6
        assert 4.2 <= words[-1].end <= 5.4
        assert all(0 < word.probability <= 1 for word in words)

    run(models_dir, scenario)


async def at_speech_pace(pcm: bytes) -> AsyncGenerator[bytes, None]:
    """Frames of 40 ms, each when it would have been spoken."""
    began = time.monotonic()
    frame = BYTES_PER_SECOND // 25
    for begin in range(0, len(pcm), frame):
        spoken_at = began + begin / BYTES_PER_SECOND
        await asyncio.sleep(max(0.0, spoken_at - time.monotonic()))
        yield pcm[begin : begin + frame]


def test_captions_come_while_somebody_speaks_and_what_is_final_stays(models_dir: Path) -> None:
    """Finals only grow into the transcript; the words are right in the end."""

    async def scenario(model: WhisperModel) -> None:
        names = ("short-answer", "conflict")
        audio = b"".join(pcm(name) + bytes(BYTES_PER_SECOND) for name in names)
        captions: list[PartialTranscript] = []
        speech: Transcription | None = None
        async with aclosing(model.transcribe_live(at_speech_pace(audio))) as events:
            async for event in events:
                assert speech is None
                match event:
                    case PartialTranscript():
                        captions.append(event)
                    case Transcription():
                        speech = event
        assert speech is not None
        assert wer(" ".join(words_of()[name] for name in names), speech.text) < BOUND, speech.text
        assert len(captions) >= 5
        assert captions[0].seconds < 3.0
        for before, after in itertools.pairwise(captions):
            assert after.final.startswith(before.final)
            assert after.seconds >= before.seconds
        assert speech.text.startswith(captions[-1].final)
        assert captions[-1].final
        assert any(caption.committed for caption in captions)
        assert (await model.stats()) == SpeechStats()

    run(models_dir, scenario)


def test_a_long_recording_leaves_another_speaker_captions(models_dir: Path) -> None:
    """Three minutes that came at once are not in the way of who speaks meanwhile."""

    async def scenario(model: WhisperModel) -> None:
        whole = asyncio.create_task(model.transcribe(pcm("event-sourcing") * 16))
        captions = 0
        async with aclosing(model.transcribe_live(at_speech_pace(pcm("conflict")))) as events:
            async for event in events:
                if isinstance(event, Transcription):
                    assert wer(words_of()["conflict"], event.text) < BOUND, event.text
                else:
                    captions += 1
        assert captions >= 1
        assert not whole.done(), "it was not long enough to be in the way"
        whole.cancel()
        await asyncio.wait([whole])

    run(models_dir, scenario)


def test_nothing_of_one_recording_is_heard_in_the_next(models_dir: Path) -> None:
    """The same sound has the same words, times and probabilities, whatever came in between."""

    async def scenario(model: WhisperModel) -> None:
        first = await model.transcribe(pcm("short-answer"))
        for name in RECORDINGS:
            await model.transcribe(pcm(name))
        assert await model.transcribe(pcm("short-answer")) == first

    run(models_dir, scenario)


def test_words_to_expect_help_and_do_not_leak(models_dir: Path) -> None:
    """A vocabulary changes what is heard, for its own request and for no other."""

    async def scenario(model: WhisperModel) -> None:
        recording = pcm("conflict")
        plain = await model.transcribe(recording)
        hinted = await model.transcribe(recording, "canary release, rollback, error budget")
        again = await model.transcribe(recording)
        assert hinted.segments != plain.segments
        assert wer(words_of()["conflict"], hinted.text) < BOUND
        assert again == plain
        assert not {"rollback", "budget"} & set(normalised(hinted.text))
        long = await model.transcribe(recording, "word " * 5_000)
        assert wer(words_of()["conflict"], long.text) < BOUND

    run(models_dir, scenario)


@pytest.mark.parametrize("audio", [b"", b"\0", b"\0\0\0"])
def test_what_is_not_whole_samples_is_refused(models_dir: Path, audio: bytes) -> None:
    """A typed error, and the ears stay open."""

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            await model.transcribe(audio)
        assert (caught.value.code, caught.value.retryable) == ("bad_audio", False)
        assert model.pid == pid

    run(models_dir, scenario)


def test_a_live_recording_is_refused_like_a_whole_one(models_dir: Path) -> None:
    """Half a sample at the end is told with the same words, and the ears stay open."""

    async def halves() -> AsyncGenerator[bytes, None]:
        yield b"\0"
        yield b"\0\0"

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            async for _ in model.transcribe_live(halves()):
                pass
        assert (caught.value.code, caught.value.retryable) == ("bad_audio", False)
        assert model.pid == pid

    run(models_dir, scenario)


def test_two_hours_are_refused_before_they_are_sent(models_dir: Path) -> None:
    """A recording that does not fit into a frame is no reason to end the engine."""

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            await model.transcribe(bytes(7_200 * BYTES_PER_SECOND))
        assert (caught.value.code, caught.value.retryable) == ("request_too_long", False)
        assert model.pid == pid

    run(models_dir, scenario)


def test_a_killed_engine_costs_one_retry(models_dir: Path) -> None:
    """The recording in work fails as retryable, and the next try is answered by a new process."""

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        assert pid is not None
        recording = pcm("short-answer")
        working = asyncio.create_task(model.transcribe(recording))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InferenceError) as caught:
            await working
        assert (caught.value.code, caught.value.retryable) == ("worker_died", True)
        speech = await model.transcribe(recording)
        assert wer(words_of()["short-answer"], speech.text) < BOUND
        assert model.pid not in (None, pid)

    run(models_dir, scenario)


def test_a_recording_that_nobody_waits_for_makes_way(models_dir: Path) -> None:
    """Ten minutes that are given up do not hold up the three seconds behind them."""

    async def scenario(model: WhisperModel) -> None:
        short = pcm("short-answer")
        started = time.monotonic()
        await model.transcribe(short)
        alone = time.monotonic() - started
        long = pcm("payments-migration") * 33
        given_up = asyncio.create_task(model.transcribe(long))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        started = time.monotonic()
        await model.transcribe(short)
        assert time.monotonic() - started < 5 * alone + 3

    run(models_dir, scenario)


@pytest.mark.parametrize("content", [None, b"", b"GGUF and so on", b"lmgg\1\0\0\0", "half"])
@pytest.mark.parametrize("engine", ["pywhispercpp", "whispercpp"])
def test_a_file_that_is_no_model_is_refused_with_its_name(
    models_dir: Path, tmp_path: Path, engine: Binding, content: bytes | str | None
) -> None:
    """Missing, empty, foreign or cut short: an error that names the file, and no process stays."""
    if engine == "whispercpp" and importlib.util.find_spec("whispercpp") is None:
        pytest.skip("whispercpp is not installed; it exists for Python 3.11 and earlier")
    path = tmp_path / "broken.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "half":
        whole = (models_dir / "whisper-tiny.en.bin").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])

    async def scenario() -> None:
        model = WhisperModel(path, SystemClock(), engine=engine)
        try:
            with pytest.raises(InferenceError, match=re.escape(str(path))) as caught:
                await model.start()
            assert (caught.value.code, caught.value.retryable) == ("model_not_loaded", False)
            assert model.pid is None
        finally:
            await model.close()

    asyncio.run(scenario())


@pytest.mark.skipif(
    importlib.util.find_spec("whispercpp") is None,
    reason="whispercpp is not installed; it exists for Python 3.11 and earlier",
)
def test_the_other_binding_hears_too(models_dir: Path) -> None:
    """whispercpp 0.0.17 reads the same file, writes the same words, and takes the same care."""

    async def scenario(model: WhisperModel) -> None:
        speech = await model.transcribe(pcm("short-answer"), "customer identifier")
        assert wer(words_of()["short-answer"], speech.text) < BOUND, speech.text
        assert 0.35 <= speech.segments[0].probability <= 1
        assert (await model.transcribe(bytes(BYTES_PER_SECOND))).text == ""

    run(models_dir, scenario, engine="whispercpp")


def test_a_binding_that_is_not_installed_says_so(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package and the way around it."""
    monkeypatch.setitem(sys.modules, "whispercpp", None)
    monkeypatch.delitem(
        sys.modules, "prepserver.engines.whisper.whispercpp_transcriber", raising=False
    )
    options = WhisperOptions(path=str(models_dir / "whisper-tiny.en.bin"), binding="whispercpp")
    with pytest.raises(InferenceError, match="pip install 'prep-interview") as caught:
        load(Raw(msgspec.msgpack.encode(options)))
    assert (caught.value.code, caught.value.retryable) == ("model_not_loaded", False)
