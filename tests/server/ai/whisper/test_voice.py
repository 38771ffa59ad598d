"""Whisper is given the parts of a recording in which somebody speaks."""

import numpy as np
import pytest

from prepserver.ai.whisper.voice import CHUNK, PAUSE, Spliced, Voice, stretches
from prepserver.protocol import SAMPLE_RATE

CHUNKS_A_SECOND = SAMPLE_RATE / CHUNK


def chunks(*runs: tuple[float, float]) -> list[float]:
    """Probabilities, from (seconds, probability)."""
    return [p for seconds, p in runs for _ in range(round(seconds * CHUNKS_A_SECOND))]


def found(*runs: tuple[float, float]) -> list[tuple[float, float]]:
    """The stretches in seconds, to a tenth."""
    probabilities = chunks(*runs)
    parts = stretches(probabilities, len(probabilities) * CHUNK)
    return [(round(a / SAMPLE_RATE, 1), round(b / SAMPLE_RATE, 1)) for a, b in parts]


def test_speech_keeps_a_little_of_what_is_around_it() -> None:
    """0.3 s before and after, for breath and the end of the last consonant."""
    assert found((2, 0.0), (1, 0.9), (2, 0.0)) == [(1.7, 3.3)]


def test_a_recording_that_begins_and_ends_mid_word_is_not_cut_further() -> None:
    """There is no more to keep than there is."""
    assert found((1, 0.9)) == [(0.0, 1.0)]


def test_a_pause_is_part_of_what_is_said_and_a_long_silence_is_not() -> None:
    """Thinking for a second does not split an answer; thinking for five does."""
    assert found((1, 0.9), (1, 0.0), (1, 0.9)) == [(0.0, 3.0)]
    assert found((1, 0.9), (5, 0.0), (1, 0.9)) == [(0.0, 1.3), (5.7, 7.0)]


@pytest.mark.parametrize("seconds", [PAUSE / SAMPLE_RATE - 0.1, PAUSE / SAMPLE_RATE + 0.1])
def test_the_bound_between_pause_and_silence_counts_silence_only(seconds: float) -> None:
    """Two seconds from voice to voice, whatever is kept around it."""
    assert len(found((1, 0.9), (seconds, 0.0), (1, 0.9))) == (1 if seconds < 2 else 2)


def test_a_click_is_no_speech() -> None:
    """Two chunks are too short for a word."""
    assert found((1, 0.0), (2 / CHUNKS_A_SECOND, 0.9), (1, 0.0)) == []


def test_a_voice_that_wavers_is_still_there() -> None:
    """Once begun, it ends only well below where it began."""
    assert found((1, 0.0), (0.5, 0.9), (1, 0.4), (0.5, 0.9), (1, 0.0)) == [(0.7, 3.3)]
    assert found((1, 0.0), (1, 0.4), (1, 0.0)) == []


def test_times_in_the_splice_are_times_in_the_recording() -> None:
    """What was left out is added again."""
    second = SAMPLE_RATE
    samples = np.arange(10 * second, dtype=np.int16)
    spliced = Spliced.of(samples, [(second, 2 * second), (5 * second, 7 * second)])
    assert len(spliced.samples) == 3 * second
    assert [spliced.original(t) for t in (0.0, 0.5, 1.0, 1.5, 3.0, 9.0)] == [
        1.0,
        1.5,
        2.0,
        5.5,
        7.0,
        7.0,
    ]


def test_samples_become_numbers_between_minus_one_and_one() -> None:
    """The scale of 16-bit samples, and single precision."""
    spliced = Spliced.of(np.array([-32_768, 0, 16_384], dtype=np.int16), [(0, 3)])
    assert spliced.samples.dtype == np.float32
    assert spliced.samples.tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize("loudness", [0, 30, 300, 3_000, 12_000])
def test_silence_and_noise_are_no_voice(loudness: int) -> None:
    """The real detector, on nothing and on white noise."""
    noise = np.random.default_rng(1).normal(0, loudness, 3 * SAMPLE_RATE)
    samples = noise.clip(-32_768, 32_767).astype(np.int16)
    assert Voice().stretches(samples, lambda: True) == []


def test_detection_can_be_given_up() -> None:
    """A recording nobody waits for is not listened to until its end."""
    asked: list[bool] = []

    def proceed() -> bool:
        asked.append(True)
        return len(asked) < 3

    assert Voice().stretches(np.zeros(60 * SAMPLE_RATE, dtype=np.int16), proceed) == []
    assert len(asked) == 3


def test_each_recording_is_judged_on_its_own() -> None:
    """The detector remembers within a recording, never from one to the next."""
    voice = Voice()
    noise = np.random.default_rng(2).normal(0, 8_000, SAMPLE_RATE).astype(np.int16)
    first = voice.stretches(noise, lambda: True)
    hum = (np.sin(np.arange(SAMPLE_RATE) / 20) * 20_000).astype(np.int16)
    voice.stretches(hum, lambda: True)
    assert voice.stretches(noise, lambda: True) == first
