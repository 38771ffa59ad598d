"""Decoding of recordings, and of the sound of videos, to 16 kHz mono PCM16."""

import io
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer

from prepcli.errors import AudioFileError, AudioTooLong, EmptyAudio, NotAudio
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["MAX_SECONDS", "read_audio"]

MAX_SECONDS = 600
"""Maximum length of a spoken answer in seconds: the default of the server's setting
`max_recording`."""

PADDING_SECONDS = 0.1
"""Seconds of padding, which codecs and resamplers append, that a recording of the maximum length
may have."""

MAX_PIPE_BYTES = 256 * 1024 * 1024
"""Maximum number of bytes read from a pipe, whose content is held in memory."""

MAX_CHANNELS = 32
"""Number of channels of a recording that are used."""

LOUDEST = 1.5
"""Amplitude, relative to full scale, above which a recording is scaled down as a whole. Some
programs write 16-bit integers as floating-point numbers; lossy codecs exceed 1 only slightly."""

SILENT = 1e-4
"""Power of a silent channel, relative to that of the loudest: -40 dB."""

_Samples = np.ndarray[Any, np.dtype[np.float32]]
"""Samples in the range from -1 to 1, of shape (n, channels) or (n,)."""


def read_audio(file: Path) -> bytes:
    """Decode a recording to PCM16 little-endian, 16 kHz, mono.

    The content determines the format, not the file's name. A recording that is cut off or damaged
    is decoded as far as possible. Raises NotAudio, EmptyAudio or AudioTooLong for an unsuitable
    file, and AudioFileError if the file cannot be read.
    """
    try:
        with _open(file) as stream:
            samples = [_mix_channels(part) for part in _decode(file, stream)]
    except FileNotFoundError:
        problem = f"There is no file {file}."
        if file.is_symlink():
            problem = f"{file} is a link to {file.readlink()}, which does not exist."
        raise AudioFileError(f"{problem} Check the path.") from None
    except OSError as error:
        raise AudioFileError(
            f"Cannot read {file}: {error.strerror}. Check the path and the file's permissions."
        ) from None
    pcm = _encode(samples)
    if not pcm:
        raise EmptyAudio(f"{file} contains no audio. Choose another recording.")
    return pcm[: MAX_SECONDS * SAMPLE_RATE * 2]


def _open(file: Path) -> BinaryIO:
    """Return a seekable stream of a file's or a pipe's content."""
    # A stream without a name: FFmpeg would take a file's extension for its format.
    stream = os.fdopen(_open_descriptor(file), "rb")
    if stream.seekable():
        return stream
    with stream:
        data = stream.read(MAX_PIPE_BYTES + 1)
    if len(data) > MAX_PIPE_BYTES:
        raise AudioTooLong(
            f"{file} delivers more than {MAX_PIPE_BYTES // 1024**2} MB. Save the recording to a "
            "file and use that."
        )
    return io.BytesIO(data)


def _open_descriptor(file: Path) -> int:
    """Return a descriptor of a regular file or a pipe. Raises AudioFileError for anything else."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode):
        return descriptor
    os.close(descriptor)
    found = "folder" if stat.S_ISDIR(status.st_mode) else "device"
    raise AudioFileError(f"{file} is a {found}, not a recording. Choose an audio file.")


def _decode(file: Path, stream: BinaryIO) -> Iterator[_Samples]:
    """Yield the samples of a recording at 16 kHz, in a new array whenever the sample format, the
    rate or the channels change within the recording."""
    if not stream.seek(0, io.SEEK_END):
        raise EmptyAudio(f"{file} is empty. Choose another recording.")
    stream.seek(0)
    if stream.read(4) == b"RIFX":  # FFmpeg reads its samples in the wrong byte order
        raise NotAudio(f"{file} is a big-endian WAV file. Convert it to WAV, FLAC, Ogg or MP3.")
    stream.seek(0)
    try:
        # A playlist names files and addresses. Without protocols, FFmpeg opens none of them.
        with av.open(
            stream, "r", container_options={"protocol_whitelist": "none"}, metadata_errors="replace"
        ) as container:
            sound = container.streams.best("audio")
            if not isinstance(sound, av.AudioStream):
                raise NotAudio(f"{file} contains no sound. Choose another recording.")
            yield from _resample(file, _decode_frames(container, sound))
    except (av.FFmpegError, ValueError):
        raise NotAudio(
            f"{file} is not a recording in a supported format, or it is damaged. Convert it to "
            "WAV, FLAC, Ogg or MP3."
        ) from None


def _decode_frames(container: InputContainer, sound: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Yield the frames of a stream, without damaged ones. Raises FFmpegError if no frame can be
    decoded."""
    decoded = False
    damage: av.FFmpegError | None = None
    try:
        for packet in container.demux(sound):
            try:
                for frame in sound.decode(packet):
                    frame.pts = None  # a gap in the times is not filled with silence
                    decoded = True
                    yield frame
            except av.FFmpegError as error:
                damage = error
    except av.FFmpegError as error:
        damage = error
    if damage is not None and not decoded:
        raise damage


def _resample(file: Path, frames: Iterable[av.AudioFrame]) -> Iterator[_Samples]:
    remaining = int((MAX_SECONDS + PADDING_SECONDS) * SAMPLE_RATE)
    parts = groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate))
    for _, part in parts:
        resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
        chunks = []
        for frame in chain(part, [None]):
            for resampled in resampler.resample(frame):
                if resampled is None:  # the resampler has nothing to convert or to flush
                    continue
                chunk = resampled.to_ndarray().reshape(resampled.samples, -1)[:, :MAX_CHANNELS]
                remaining -= len(chunk)
                if remaining < 0:
                    raise AudioTooLong(
                        f"{file} is longer than {MAX_SECONDS // 60} minutes, the maximum length "
                        "of an answer. Shorten the recording."
                    )
                chunks.append(_require_numbers(chunk.astype(np.float32, copy=False)))
        if chunks:
            yield np.concatenate(chunks)


def _require_numbers(chunk: _Samples) -> _Samples:
    """Replace damaged samples, which are not numbers, with silence. Raises ValueError if no sample
    is a number."""
    if not np.isfinite(chunk).any():
        raise ValueError("the samples are not numbers")
    return np.nan_to_num(chunk, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _mix_channels(samples: _Samples) -> _Samples:
    """Average the channels that carry sound. If they cancel each other, return the loudest."""
    power = np.array([channel.var(dtype=np.float64) for channel in samples.T])
    used = power >= power.max() * SILENT
    mixed: _Samples = samples[:, used].mean(axis=1, dtype=np.float32)
    # The average of n unrelated channels has the sum of their powers, divided by n².
    if mixed.var(dtype=np.float64) < power[used].sum() / used.sum() ** 2 / 2:
        mixed = samples[:, power.argmax()]
    return mixed


def _encode(parts: list[_Samples]) -> bytes:
    """Return samples of shape (n,) as PCM16."""
    peak = max((float(np.abs(part).max()) for part in parts), default=0.0)
    scale = 32768.0 / (peak if peak > LOUDEST else 1.0)
    return b"".join(
        np.clip(np.rint(part * scale), -32768, 32767).astype("<i2").tobytes() for part in parts
    )
