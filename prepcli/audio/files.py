"""Decoding of audio files of any sample rate and channel count to 16 kHz mono PCM16."""

import wave
from pathlib import Path
from typing import Any

import numpy as np

from prepcli.errors import AudioFileError, AudioTooLong, EmptyAudio, NotAudio
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["MAX_SECONDS", "read_audio"]

MAX_SECONDS = 600.0
"""Maximum length of a spoken answer in seconds: the default of the server's setting
`max_recording`."""

_Samples = np.ndarray[Any, np.dtype[np.float32]]


def read_audio(file: Path) -> bytes:
    """Decode a recording to PCM16 little-endian, 16 kHz, mono.

    Supports the formats of libsndfile (WAV, FLAC, Ogg, MP3 and others), or only WAV if the package
    soundfile is missing. The length is checked before the samples are read. Raises NotAudio,
    EmptyAudio or AudioTooLong for an unsuitable file, and AudioFileError if the file cannot be
    opened.
    """
    try:
        if not file.is_file():
            raise AudioFileError(f"There is no file {file}. Check the path.")
        if file.stat().st_size == 0:
            raise EmptyAudio(f"{file} is empty. Choose another recording.")
        with file.open("rb"):
            pass
    except OSError as error:
        raise AudioFileError(
            f"Cannot read {file}: {error.strerror}. Check the path and the file's permissions."
        ) from None
    try:
        samples, rate = _read_with_libsndfile(file)
    except ImportError:
        samples, rate = _read_with_wave_module(file)
    if samples.shape[0] == 0:
        raise EmptyAudio(f"{file} contains no audio. Choose another recording.")
    return _to_pcm16(samples, rate)


def _to_pcm16(samples: _Samples, rate: int) -> bytes:
    """Convert samples of shape (n, channels), in the range from -1 to 1, to 16 kHz mono PCM16."""
    import soxr  # a native library that typed interviews do not need

    mono = samples.mean(axis=1, dtype=np.float32)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    scaled = np.clip(np.rint(mono * 32768.0), -32768, 32767)
    return bytes(scaled.astype("<i2"))


def _read_with_libsndfile(file: Path) -> tuple[_Samples, int]:
    """Return the samples of a file, in shape (n, channels), and the sample rate in Hz. Raises
    ImportError if the package soundfile is missing."""
    import soundfile

    try:
        with soundfile.SoundFile(str(file)) as sound:
            _check_length(file, sound.frames, sound.samplerate)
            # The length in the header of a compressed file is an estimate.
            limit = int(MAX_SECONDS * sound.samplerate) + 1
            samples = sound.read(limit, dtype="float32", always_2d=True)
            rate = int(sound.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        raise _not_audio(file) from None
    _check_length(file, samples.shape[0], rate)
    if not np.isfinite(samples).all():
        raise _not_audio(file)
    return samples, rate


def _read_with_wave_module(file: Path) -> tuple[_Samples, int]:
    """Return the samples of a WAV file, in shape (n, channels), and the sample rate in Hz."""
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
    return _decode_wav_samples(data, width).reshape(-1, channels), rate


def _decode_wav_samples(data: bytes, width: int) -> _Samples:
    """Scale WAV samples of 1 to 4 bytes each to the range from -1 to 1. One-byte samples are
    unsigned."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
    if width == 3:
        # Shift into the upper three of four bytes, which puts the sign bit in its place.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, width = wide.tobytes(), 4
    full_scale = float(1 << (8 * width - 1))
    return (np.frombuffer(data, f"<i{width}") / full_scale).astype(np.float32)


def _check_length(file: Path, frames: int, rate: int) -> None:
    if frames > MAX_SECONDS * rate:
        raise AudioTooLong(
            f"{file} is longer than {MAX_SECONDS / 60:g} minutes, the maximum length of an "
            "answer. Shorten the recording."
        )


def _not_audio(file: Path) -> NotAudio:
    return NotAudio(
        f"{file} is not a recording in a supported format. Convert it to WAV, FLAC, Ogg or MP3."
    )
