"""Bundled recordings, and synthetic sounds without speech."""

import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prepserver.wire.protocol import SAMPLE_RATE

SPEECH = Path(__file__).parents[3] / "speech"
"""Folder of the bundled recordings and their transcripts."""

Samples = NDArray[np.int16]


def read_recording(name: str) -> Samples:
    """Return the samples of a bundled recording."""
    with wave.open(str(SPEECH / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def reference_transcripts(folder: str = "") -> dict[str, str]:
    """Return the transcript of each bundled recording, by the name of the recording.

    The `folder` "" has synthetic voices and `real/` has people; names begin with the folder.
    """
    lines = (SPEECH / folder / "transcripts.tsv").read_text("utf-8").splitlines()
    return {f"{folder}{name}": text for name, text in (line.split("\t") for line in lines)}


def sounds_without_speech(seconds: float) -> Mapping[str, Samples]:
    """Return synthetic sounds of `seconds` seconds each, by name. Calls with equal `seconds` return
    the same samples."""
    random = np.random.default_rng(3)
    count = round(seconds * SAMPLE_RATE)
    time: NDArray[np.float64] = np.arange(count) / SAMPLE_RATE
    white: NDArray[np.float64] = random.normal(0, 1, count)
    return {
        "silence": _to_pcm(np.zeros(count)),
        "faint noise": _to_pcm(white * 0.01),
        "loud noise": _to_pcm(white * 0.2),
        "pink noise": _to_pcm(_pink_noise(random, count) * 0.2),
        "hum": _to_pcm((_tone(time, 50) + _tone(time, 100) / 2 + _tone(time, 150) / 3) * 0.2),
        "beeps": _to_pcm(np.sin(2 * np.pi * 1_000 * time) * (time % 1 < 0.2) * 0.3),
        "telephone": _to_pcm((_tone(time, 350) + _tone(time, 440)) * (time % 3 < 1) * 0.2),
        "chords": _to_pcm(_chords(time) * 0.2),
        "melody": _to_pcm(_melody(time) * 0.3),
        "clicks": _to_pcm(np.where(random.random(count) < 4 / SAMPLE_RATE, 0.9, 0.0)),
        "typing": _to_pcm(
            white * (random.random(count // 800 + 1).repeat(800)[:count] < 0.2) * 0.3
        ),
        "breath": _to_pcm(_pink_noise(random, count) * np.abs(_tone(time, 1 / 8)) * 0.15),
    }


def _to_pcm(samples: NDArray[np.float64]) -> Samples:
    return (samples * 32_767).clip(-32_768, 32_767).astype("<i2")


def _tone(time: NDArray[np.float64], frequency: float) -> NDArray[np.float64]:
    return np.asarray(np.sin(2 * np.pi * frequency * time))


def _pink_noise(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Generate noise whose power is inversely proportional to the frequency."""
    spectrum: NDArray[np.complex128] = np.fft.rfft(random.normal(0, 1, count))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / np.abs(noise).max())


def _chords(time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Generate a repeated cycle of four two-second triads, which fade like chords on a piano."""
    roots = np.array([261.6, 220.0, 174.6, 196.0])[(time // 2).astype(int) % 4]
    notes = np.zeros(len(time))
    for ratio in (1, 1.25, 1.5):
        for harmonic in (1, 2, 3):
            notes += np.sin(2 * np.pi * roots * ratio * harmonic * time) / harmonic
    return np.asarray(notes * np.exp(-1.5 * (time % 2)) / 4)


def _melody(time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Generate a scale with vibrato, at three notes per second."""
    steps: NDArray[np.float64] = np.array([0, 2, 4, 5, 7, 9, 11, 12])[(time * 3).astype(int) % 8]
    frequency = 261.6 * 2 ** (steps / 12) * (1 + 0.01 * np.sin(2 * np.pi * 5 * time))
    return np.asarray(np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE))
