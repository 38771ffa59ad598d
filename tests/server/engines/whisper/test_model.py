"""Starter speech model in a process of its own, applied to recordings with known words."""

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
from prepserver.engines.types import ExpectedSpeech, PartialTranscript, SpeechStats, Transcription
from prepserver.engines.whisper.engine import load
from prepserver.engines.whisper.model import WhisperModel
from prepserver.engines.whisper.options import Binding, WhisperOptions
from prepserver.errors import InferenceError
from prepserver.interview.speech.doubt import find_problem
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.server.engines.whisper.sounds import (
    read_recording,
    reference_transcripts,
    sounds_without_speech,
)
from tests.support.wer import normalise, wer

pytestmark = pytest.mark.models

MAX_WER = 0.2
"""Word error rate that every transcript must stay below."""
RECORDINGS = ("payments-migration", "event-sourcing", "conflict", "short-answer")
REFERENCES = reference_transcripts()


def pcm(name: str) -> bytes:
    return read_recording(name).tobytes()


def run(
    models_dir: Path,
    scenario: Callable[[WhisperModel], Awaitable[None]],
    engine: Binding = "pywhispercpp",
) -> None:
    """Start a model, run `scenario` with the model, and close the model."""

    async def with_model() -> None:
        model = WhisperModel(models_dir / "whisper-tiny.en.bin", SystemClock(), engine=engine)
        try:
            await model.start()
            await scenario(model)
        finally:
            await model.close()

    asyncio.run(with_model())


# --- Transcripts --------------------------------------------------------------------------------


def test_every_recording_is_transcribed(models_dir: Path) -> None:
    """Every recording is transcribed with a word error rate below 0.2, and segments are ordered in
    time."""

    async def scenario(model: WhisperModel) -> None:
        assert set(REFERENCES) == set(RECORDINGS)
        for name in RECORDINGS:
            recording = pcm(name)
            result = await model.transcribe(recording)
            assert wer(REFERENCES[name], result.text) < MAX_WER, result.text
            assert result.seconds == len(recording) / BYTES_PER_SECOND
            times = [t for segment in result.segments for t in (segment.start, segment.end)]
            assert times == sorted(times)
            assert 0 <= times[0] < times[-1] <= result.seconds
            assert all(0.35 <= segment.probability <= 1 for segment in result.segments)
            assert result.text == " ".join(segment.text for segment in result.segments)

    run(models_dir, scenario)


@pytest.mark.parametrize("decibels", [-30, -45, -54])
def test_quiet_recordings_are_transcribed(models_dir: Path, decibels: int) -> None:
    """A recording whose loudness is 50 to 74 dB below full scale gives the words, with
    confidence."""

    async def scenario(model: WhisperModel) -> None:
        for name in ("short-answer", "conflict"):
            quiet = np.round(read_recording(name) * 10 ** (decibels / 20)).astype("<i2")
            result = await model.transcribe(quiet.tobytes())
            assert wer(REFERENCES[name], result.text) < MAX_WER, result.text
            assert find_problem(result) is None

    run(models_dir, scenario)


@pytest.mark.parametrize("name", ["short-answer", "conflict"])
def test_speech_that_is_no_language_is_doubtful(models_dir: Path, name: str) -> None:
    """Speech played backwards, chopped or mixed with other speech is doubtful, and the same speech
    played forwards is not."""
    forwards = read_recording(name)[:80_000]
    others = [np.resize(read_recording(other), len(forwards)) // 4 for other in RECORDINGS]
    pieces = np.array_split(forwards, len(forwards) // 3_200)
    sounds = {
        "backwards": forwards[::-1],
        "chopped": np.concatenate([piece[::-1] for piece in pieces]),
        "babble": sum((np.roll(x, 8_000 * n) for n, x in enumerate(others)), start=others[0] // 8),
    }

    async def scenario(model: WhisperModel) -> None:
        assert find_problem(await model.transcribe(forwards.tobytes())) is None
        for sound, samples in sounds.items():
            result = await model.transcribe(samples.astype("<i2").tobytes())
            problem = find_problem(result)
            assert problem is not None, (sound, result)
            assert problem.code in (ErrorCode.SPEECH_DOUBTFUL, ErrorCode.NOTHING_HEARD)
            assert result.english_only

    run(models_dir, scenario)


@pytest.mark.parametrize("vocabulary", ["", "A job interview. Topics: PostgreSQL, gRPC, Kafka."])
def test_sounds_without_speech_have_no_transcript(models_dir: Path, vocabulary: str) -> None:
    """No words, nor those of the vocabulary, are transcribed from silence, noise, hum, beeps,
    music, clicks or breath."""

    async def scenario(model: WhisperModel) -> None:
        sounds = {**sounds_without_speech(12.0), "one sample": np.zeros(1, "<i2")}
        hallucinations = {}
        for name, samples in sounds.items():
            expected = ExpectedSpeech(vocabulary=vocabulary)
            result = await model.transcribe(samples.tobytes(), expected)
            assert result.dropped, name
            assert result.seconds == len(samples) / 16_000
            if result.text or result.segments:
                hallucinations[name] = result.text
        assert hallucinations == {}

    run(models_dir, scenario)


def test_long_silences_add_nothing(models_dir: Path) -> None:
    """Long silences between recordings add no words and do not shift the times."""

    async def scenario(model: WhisperModel) -> None:
        silence = bytes(9 * BYTES_PER_SECOND)
        names = ("short-answer", "conflict", "event-sourcing", "short-answer")
        recordings = [pcm(name) for name in names]
        audio = silence + b"".join(recording + silence for recording in recordings)
        result = await model.transcribe(audio)
        reference = " ".join(REFERENCES[name] for name in names)
        assert wer(reference, result.text) < MAX_WER, result.text
        begin = 9.0
        for recording in recordings:
            end = begin + len(recording) / BYTES_PER_SECOND
            assert any(begin - 0.5 <= segment.start < end for segment in result.segments)
            begin = end + 9.0
        assert result.segments[0].start >= 8.5

    run(models_dir, scenario)


def test_words_have_times(models_dir: Path) -> None:
    """Every word of the transcript has a time within the speech, and the times are in order."""

    async def scenario(model: WhisperModel) -> None:
        silence = bytes(2 * BYTES_PER_SECOND)
        result = await model.transcribe(silence + pcm("short-answer") + silence)
        words = [word for segment in result.segments for word in segment.words]
        assert " ".join(word.text for word in words) == result.text
        times = [t for word in words for t in (word.start, word.end)]
        assert times == sorted(times)
        assert 1.6 <= words[0].start <= 2.6
        assert 4.2 <= words[-1].end <= 5.4
        assert all(0 < word.probability <= 1 for word in words)

    run(models_dir, scenario)


def test_recordings_do_not_affect_each_other(models_dir: Path) -> None:
    """The same audio gives the same words, times and probabilities before and after other
    recordings."""

    async def scenario(model: WhisperModel) -> None:
        first = await model.transcribe(pcm("short-answer"))
        for name in RECORDINGS:
            await model.transcribe(pcm(name))
        assert await model.transcribe(pcm("short-answer")) == first

    run(models_dir, scenario)


def test_a_vocabulary_affects_its_own_request_only(models_dir: Path) -> None:
    """A vocabulary affects only its own request, does not appear in the transcript, and is
    truncated if it is too long."""

    async def scenario(model: WhisperModel) -> None:
        recording = pcm("conflict")
        plain = await model.transcribe(recording)
        with_hints = await model.transcribe(
            recording, ExpectedSpeech(vocabulary="canary release, rollback, error budget")
        )
        again = await model.transcribe(recording)
        assert with_hints.segments != plain.segments
        assert wer(REFERENCES["conflict"], with_hints.text) < MAX_WER
        assert again == plain
        assert not {"rollback", "budget"} & set(normalise(with_hints.text))
        truncated = await model.transcribe(recording, ExpectedSpeech(vocabulary="word " * 5_000))
        assert wer(REFERENCES["conflict"], truncated.text) < MAX_WER

    run(models_dir, scenario)


# --- Live transcription -------------------------------------------------------------------------


async def in_real_time(pcm: bytes) -> AsyncGenerator[bytes, None]:
    """Yield the audio in frames of 40 ms, in real time."""
    began = time.monotonic()
    frame = BYTES_PER_SECOND // 25
    for begin in range(0, len(pcm), frame):
        due = began + begin / BYTES_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield pcm[begin : begin + frame]


def test_captions_arrive_during_speech_and_final_text_stays(models_dir: Path) -> None:
    """Captions arrive during speech, their final text only grows, and the transcript begins with
    that final text."""

    async def scenario(model: WhisperModel) -> None:
        names = ("short-answer", "conflict")
        audio = b"".join(pcm(name) + bytes(BYTES_PER_SECOND) for name in names)
        captions: list[PartialTranscript] = []
        result: Transcription | None = None
        async with aclosing(model.transcribe_live(in_real_time(audio))) as events:
            async for event in events:
                assert result is None
                match event:
                    case PartialTranscript():
                        captions.append(event)
                    case Transcription():
                        result = event
        assert result is not None
        reference = " ".join(REFERENCES[name] for name in names)
        assert wer(reference, result.text) < MAX_WER, result.text
        assert len(captions) >= 5
        assert captions[0].seconds < 3.0
        for before, after in itertools.pairwise(captions):
            assert after.final.startswith(before.final)
            assert after.seconds >= before.seconds
        assert result.text.startswith(captions[-1].final)
        assert captions[-1].final
        assert any(caption.committed for caption in captions)
        assert (await model.stats()) == SpeechStats()

    run(models_dir, scenario)


def test_a_long_recording_leaves_captions_to_another_speaker(models_dir: Path) -> None:
    """A recording of three minutes that arrives at once does not block a live transcription."""

    async def scenario(model: WhisperModel) -> None:
        long = asyncio.create_task(model.transcribe(pcm("event-sourcing") * 16))
        captions = 0
        async with aclosing(model.transcribe_live(in_real_time(pcm("conflict")))) as events:
            async for event in events:
                if isinstance(event, Transcription):
                    assert wer(REFERENCES["conflict"], event.text) < MAX_WER, event.text
                else:
                    captions += 1
        assert captions >= 1
        assert not long.done(), "the long recording ended too early to compete"
        long.cancel()
        await asyncio.wait([long])

    run(models_dir, scenario)


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [b"", b"\0", b"\0\0\0"])
def test_incomplete_samples_are_refused(models_dir: Path, audio: bytes) -> None:
    """An empty recording or a recording with half a sample is rejected with a typed error, and the
    engine keeps running."""

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            await model.transcribe(audio)
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_AUDIO, False)
        assert model.pid == pid

    run(models_dir, scenario)


def test_incomplete_samples_of_a_live_recording_are_refused(models_dir: Path) -> None:
    """A live recording that ends with half a sample is rejected with a typed error, and the engine
    keeps running."""

    async def half_samples() -> AsyncGenerator[bytes, None]:
        yield b"\0"
        yield b"\0\0"

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            async for _ in model.transcribe_live(half_samples()):
                pass
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_AUDIO, False)
        assert model.pid == pid

    run(models_dir, scenario)


def test_a_recording_of_two_hours_is_refused_before_it_is_sent(models_dir: Path) -> None:
    """A recording of two hours is rejected, and the engine keeps running."""

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            await model.transcribe(bytes(7_200 * BYTES_PER_SECOND))
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.REQUEST_TOO_LONG, False)
        assert model.pid == pid

    run(models_dir, scenario)


@pytest.mark.parametrize("content", [None, b"", b"GGUF and so on", b"lmgg\1\0\0\0", "half"])
@pytest.mark.parametrize("engine", ["pywhispercpp", "whispercpp"])
def test_an_invalid_model_file_is_refused(
    models_dir: Path, tmp_path: Path, engine: Binding, content: bytes | str | None
) -> None:
    """Loading a file that is missing, empty, truncated or in another format raises an error that
    names the file, and leaves no process."""
    if engine == "whispercpp" and importlib.util.find_spec("whispercpp") is None:
        pytest.skip("whispercpp is not installed; it supports Python 3.11 and earlier")
    path = tmp_path / "broken.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "half":
        complete = (models_dir / "whisper-tiny.en.bin").read_bytes()
        path.write_bytes(complete[: len(complete) // 2])

    async def scenario() -> None:
        model = WhisperModel(path, SystemClock(), engine=engine)
        try:
            with pytest.raises(InferenceError, match=re.escape(str(path))) as caught:
                await model.start()
            assert caught.value.code == ErrorCode.MODEL_NOT_LOADED
            assert not caught.value.retryable
            assert model.pid is None
        finally:
            await model.close()

    asyncio.run(scenario())


# --- Crashes and cancellation -------------------------------------------------------------------


def test_a_killed_engine_costs_one_retry(models_dir: Path) -> None:
    """If the engine is killed during a request, the request fails with a retryable error, and a new
    process handles the retry."""

    async def scenario(model: WhisperModel) -> None:
        pid = model.pid
        assert pid is not None
        recording = pcm("short-answer")
        request = asyncio.create_task(model.transcribe(recording))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InferenceError) as caught:
            await request
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.WORKER_DIED, True)
        result = await model.transcribe(recording)
        assert wer(REFERENCES["short-answer"], result.text) < MAX_WER
        assert model.pid not in (None, pid)

    run(models_dir, scenario)


def test_a_cancelled_recording_does_not_delay_the_next(models_dir: Path) -> None:
    """A cancelled recording of ten minutes does not delay the next recording."""

    async def scenario(model: WhisperModel) -> None:
        short = pcm("short-answer")
        started = time.monotonic()
        await model.transcribe(short)
        alone = time.monotonic() - started
        long = pcm("payments-migration") * 33
        cancelled = asyncio.create_task(model.transcribe(long))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        started = time.monotonic()
        await model.transcribe(short)
        assert time.monotonic() - started < 5 * alone + 3

    run(models_dir, scenario)


def test_the_starter_refuses_another_language(models_dir: Path) -> None:
    """The error of the starter model in a German interview names the model, and English still
    works."""

    async def scenario(model: WhisperModel) -> None:
        with pytest.raises(InferenceError, match=r"whisper-tiny\.en understands only") as caught:
            await model.transcribe(pcm("short-answer"), ExpectedSpeech(language="de"))
        assert caught.value.code == ErrorCode.SPEECH_LANGUAGE
        assert (await model.transcribe(pcm("short-answer"))).text

    run(models_dir, scenario)


# --- The alternative binding --------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("whispercpp") is None,
    reason="whispercpp is not installed; it supports Python 3.11 and earlier",
)
def test_the_alternative_binding_transcribes_too(models_dir: Path) -> None:
    """The whispercpp binding transcribes with the same model file, and the same hallucination
    filter is applied to its results."""

    async def scenario(model: WhisperModel) -> None:
        result = await model.transcribe(
            pcm("short-answer"), ExpectedSpeech(vocabulary="customer identifier", language="en")
        )
        assert wer(REFERENCES["short-answer"], result.text) < MAX_WER, result.text
        assert 0.35 <= result.segments[0].probability <= 1
        assert (await model.transcribe(bytes(BYTES_PER_SECOND))).text == ""

    run(models_dir, scenario, engine="whispercpp")


def test_a_missing_binding_is_reported(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a missing binding names the package to install."""
    monkeypatch.setitem(sys.modules, "whispercpp", None)
    monkeypatch.delitem(
        sys.modules, "prepserver.engines.whisper.whispercpp_transcriber", raising=False
    )
    options = WhisperOptions(path=str(models_dir / "whisper-tiny.en.bin"), binding="whispercpp")
    with pytest.raises(InferenceError, match="pip install 'prep-interview") as caught:
        load(Raw(msgspec.msgpack.encode(options)))
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.MODEL_NOT_LOADED, False)
