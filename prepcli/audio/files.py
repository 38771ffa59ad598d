"""Recordings in files: any format, rate and number of channels in, 16 kHz mono PCM16 out."""

import wave
from pathlib import Path
from typing import Any

import numpy as np

from prepcli.errors import AudioFileError, AudioTooLong, EmptyAudio, NotAudio
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["MAX_SECONDS", "read_audio"]

MAX_SECONDS = 600.0
"""The longest spoken answer a server takes."""

_Samples = np.ndarray[Any, np.dtype[np.float32]]


def read_audio(file: Path) -> bytes:
    """A recording as PCM16 little-endian, 16 kHz, mono.

    Reads what libsndfile reads (WAV, FLAC, Ogg, MP3, …) and, without libsndfile, what the wave
    module reads. The length is checked before the samples are read. Raises NotAudio, EmptyAudio,
    AudioTooLong; AudioFileError when the file is not there or cannot be opened.
    """
    try:
        if not file.is_file():
            raise AudioFileError(f"There is no file {file}.")
        if file.stat().st_size == 0:
            raise EmptyAudio(f"{file} is empty: it holds no recording.")
        with file.open("rb"):
            pass
    except OSError as error:
        raise AudioFileError(f"{file} cannot be read: {error.strerror}.") from None
    try:
        samples, rate = _read_by_libsndfile(file)
    except ImportError:
        samples, rate = _read_by_wave(file)
    if samples.shape[0] == 0:
        raise EmptyAudio(f"{file} holds no sound: it has no samples.")
    return _to_pcm(samples, rate)


def _to_pcm(samples: _Samples, rate: int) -> bytes:
    """Samples of shape (n, channels) between -1 and 1, mixed, resampled and rounded to PCM16."""
    import soxr  # compiled, and of no use to whoever types

    mono = samples.mean(axis=1, dtype=np.float32)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    scaled = np.clip(np.rint(mono * 32768.0), -32768, 32767)
    return bytes(scaled.astype("<i2"))


def _read_by_libsndfile(file: Path) -> tuple[_Samples, int]:
    import soundfile  # loads libsndfile, which need not be there

    try:
        with soundfile.SoundFile(str(file)) as sound:
            _check_length(file, sound.frames, sound.samplerate)
            # Some formats do not know their length before the end.
            limit = int(MAX_SECONDS * sound.samplerate) + 1
            samples = sound.read(limit, dtype="float32", always_2d=True)
            rate = int(sound.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        raise _not_audio(file) from None
    _check_length(file, samples.shape[0], rate)
    if not np.isfinite(samples).all():
        raise _not_audio(file)
    return samples, rate


def _read_by_wave(file: Path) -> tuple[_Samples, int]:
    try:
        with wave.open(str(file), "rb") as sound:
            width, channels = sound.getsampwidth(), sound.getnchannels()
            rate = sound.getframerate()
            if rate <= 0:
                raise _not_audio(file)
            _check_length(file, sound.getnframes(), rate)
            data = sound.readframes(int(MAX_SECONDS * rate) + 1)
    except (wave.Error, EOFError):
        raise _not_audio(file) from None
    data = data[: len(data) - len(data) % (width * channels)]
    return _unpacked(data, width).reshape(-1, channels), rate


def _unpacked(data: bytes, width: int) -> _Samples:
    """WAV samples of 1 to 4 bytes between -1 and 1; those of one byte are unsigned."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
    if width == 3:
        # To the upper three of four bytes, so that the sign is in its place.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, width = wide.tobytes(), 4
    full_scale = float(1 << (8 * width - 1))
    return (np.frombuffer(data, f"<i{width}") / full_scale).astype(np.float32)


def _check_length(file: Path, frames: int, rate: int) -> None:
    if frames > MAX_SECONDS * rate:
        raise AudioTooLong(
            f"{file} is longer than {MAX_SECONDS / 60:g} minutes, which is the longest answer. "
            "Cut it."
        )


def _not_audio(file: Path) -> NotAudio:
    return NotAudio(
        f"{file} is not a recording that can be read. Convert it to WAV, FLAC, Ogg or MP3."
    )
