"""Recordings made for tests, in any container, codec and layout that FFmpeg writes."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

TONE = 440.0
"""Frequency of the test tone in Hz."""

Samples = np.ndarray[Any, np.dtype[np.float64]]


def tone(rate: int, seconds: float = 1.0, channels: int = 1) -> Samples:
    """Return a 440 Hz sine at half of full scale, as an array of shape (n, channels)."""
    time = np.arange(int(rate * seconds)) / rate
    signal = 0.5 * np.sin(2 * np.pi * TONE * time)
    return np.repeat(signal[:, None], channels, axis=1)


def pitch(pcm: bytes) -> float:
    """Return the strongest frequency in 16 kHz PCM16 audio, in Hz."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / samples.size)


def same_words(pcm: bytes, expected: bytes) -> float:
    """Return the correlation of two recordings, from 0 to 1, regardless of their sign."""
    one, other = (np.frombuffer(each, "<i2").astype(float) for each in (pcm, expected))
    return float(abs(np.corrcoef(one, other)[0, 1]))


def write(
    file: Path,
    samples: Samples,
    rate: int,
    *,
    container: str = "wav",
    codec: str = "pcm_f32le",
    layout: str = "",
    picture: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write samples in the range from -1 to 1, of shape (n, channels), and return the file.

    `layout` is FFmpeg's name of a channel layout, `picture` adds a video track, and `options` are
    those of the container.
    """
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}.get(
        samples.shape[1], f"{samples.shape[1]} channels"
    )
    with av.open(str(file), "w", format=container, container_options=options) as output:
        packets = _encode_picture(output) if picture else []
        sound = output.add_stream(codec, rate=rate, options={"strict": "-2"})
        assert isinstance(sound, av.AudioStream)
        sound.layout = layout
        packed = samples.astype(np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = 0
        for packet in (*packets, *sound.encode(frame), *sound.encode(None)):
            output.mux(packet)
    return file


def write_silent_video(file: Path) -> None:
    """Write a video without a sound track."""
    with av.open(str(file), "w", format="mp4") as output:
        for packet in _encode_picture(output):
            output.mux(packet)


def _encode_picture(output: OutputContainer) -> "list[av.Packet[av.VideoStream]]":
    """Add a video track to a file and return its only picture, encoded."""
    video = output.add_stream("mpeg4", rate=10)
    video.width = video.height = 32
    black = av.VideoFrame.from_ndarray(np.zeros((48, 32), np.uint8), "yuv420p")
    black.pts = 0
    return [*video.encode(black), *video.encode(None)]
