from pathlib import Path

import numpy as np
import pytest

from prepcli.audio.files import read_audio
from prepcli.audio.level import rms
from tests.cli.audio.recordings import Samples, same_words, write


@pytest.mark.parametrize(
    "gains",
    [
        [1, -1],
        [1, -0.7],
        [-0.3, 1],
        [1, 0],
        [0, 1],
        [1, 0.001],
        [1, -1, 1, -1],
        [0, 0, 1, 0, 0, 0],
        [1, -1, 0, 0, 0, 0],
        [0.5, 0.5, 1, 0, 0.5, 0.5],
        [*[0] * 11, 1],
        [*[0] * 31, 1],
    ],
)
def test_speech_survives_the_mixing_of_channels(
    tmp_path: Path, speech: Samples, gains: list[float]
) -> None:
    """Speech is kept at its level if channels cancel each other, if one is silent, and if only the
    centre of a surround recording speaks."""
    expected = read_audio(write(tmp_path / "mono.wav", speech, 16_000))
    pcm = read_audio(write(tmp_path / "mixed.wav", speech * np.array(gains), 16_000))
    assert same_words(pcm, expected) > 0.999
    assert rms(pcm) > rms(expected) - 6.1


@pytest.mark.parametrize("offset", [0.2, -0.3])
def test_cancelling_channels_with_an_offset(tmp_path: Path, speech: Samples, offset: float) -> None:
    """A constant offset does not hide that the channels cancel each other."""
    mixed = np.hstack([speech, -speech]) * 0.5 + offset
    pcm = read_audio(write(tmp_path / "mixed.wav", mixed, 16_000))
    expected = read_audio(write(tmp_path / "mono.wav", speech, 16_000))
    assert same_words(pcm, expected) > 0.999


def test_cancelling_channels_with_noise(tmp_path: Path, speech: Samples) -> None:
    """Hum that both channels share does not hide that their speech cancels."""
    hum = 0.1 * speech.std() * np.sin(np.arange(len(speech)) * 2 * np.pi * 50 / 16_000)[:, None]
    pcm = read_audio(write(tmp_path / "mixed.wav", np.hstack([speech, -speech]) + hum, 16_000))
    expected = read_audio(write(tmp_path / "mono.wav", speech, 16_000))
    assert same_words(pcm, expected) > 0.99


def test_speakers_on_different_channels_are_both_kept(tmp_path: Path, speech: Samples) -> None:
    """If each channel has a speaker of its own, both are heard."""
    silence = np.zeros_like(speech)
    left, right = np.vstack([speech, silence]), np.vstack([silence, speech])
    pcm = read_audio(write(tmp_path / "call.wav", np.hstack([left, right]), 16_000))
    half = len(pcm) // 2
    assert rms(pcm[:half]) == pytest.approx(rms(pcm[half:]), abs=0.1)
    assert rms(pcm) > -50
