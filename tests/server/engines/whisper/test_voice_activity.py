"""Voices are found chunk by chunk, however the sound comes in."""

import numpy as np
import pytest

from prepserver.engines.whisper.voice_activity import CHUNK, VoiceActivityDetector, scaled
from prepserver.wire.protocol import SAMPLE_RATE
from tests.server.engines.whisper.sounds import spoken


@pytest.mark.parametrize("loudness", [0, 30, 300, 3_000, 12_000])
def test_silence_and_noise_are_no_voice(loudness: int) -> None:
    """The real detector, on nothing and on white noise."""
    noise = np.random.default_rng(1).normal(0, loudness, 3 * SAMPLE_RATE)
    samples = noise.clip(-32_768, 32_767).astype(np.int16)
    assert max(chunk.probability for chunk in VoiceActivityDetector().hear(samples)) < 0.5


def test_speech_is_a_voice() -> None:
    """Most of a recorded sentence, and not what is before it."""
    samples = np.concatenate((np.zeros(SAMPLE_RATE, np.int16), spoken("short-answer")))
    likely = [chunk.probability >= 0.5 for chunk in VoiceActivityDetector().hear(samples)]
    second = SAMPLE_RATE // CHUNK
    assert not any(likely[: second - 1])
    assert sum(likely[second:]) > 0.8 * len(likely[second:])


def test_frames_of_any_length_give_the_same_chunks() -> None:
    """What is left over from one piece begins the next; the end is filled up."""
    samples = spoken("short-answer")
    at_once, in_pieces = VoiceActivityDetector(), VoiceActivityDetector()
    whole = at_once.hear(samples) + at_once.end()
    pieces = [
        chunk for n in range(0, len(samples), 640) for chunk in in_pieces.hear(samples[n : n + 640])
    ]
    assert pieces + in_pieces.end() == whole
    assert len(whole) == -(-len(samples) // CHUNK)
    assert at_once.end() == []


def test_each_recording_is_judged_on_its_own() -> None:
    """The detector remembers within a recording, never from one to the next."""
    noise = np.random.default_rng(2).normal(0, 8_000, SAMPLE_RATE).astype(np.int16)
    first, second = VoiceActivityDetector(), VoiceActivityDetector()
    second.hear(spoken("short-answer"))
    assert first.hear(noise) == VoiceActivityDetector().hear(noise)


def test_the_level_is_the_root_mean_square() -> None:
    """Of samples between -1 and 1."""
    (chunk,) = VoiceActivityDetector().hear(np.full(CHUNK, -16_384, np.int16))
    assert chunk.level == 0.5
    numbers = scaled(np.array([-32_768, 0, 16_384], dtype=np.int16))
    assert numbers.dtype == np.float32
    assert numbers.tolist() == [-1.0, 0.0, 0.5]
