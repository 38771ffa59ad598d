"""Response bodies of the REST API, in addition to the structs of the room protocol."""

from typing import Literal

from msgspec import Struct, field

from prepserver.wire.protocol import Error, Interview, Message

__all__ = [
    "ErrorBody",
    "Health",
    "InterviewList",
    "MessageList",
    "RoomToken",
    "SpokenAnswer",
    "TranscribedSegment",
    "TranscribedWord",
]


class ErrorBody(Struct, frozen=True):
    """Body of every response with a status of at least 400."""

    error: Error


class RoomToken(Struct, frozen=True):
    """Body of `GET /auth/token`."""

    token: str
    """Value of the query parameter `token` in a room's address."""
    expires_at: float
    """Expiry of the token, in seconds since the Unix epoch."""


class InterviewList(Struct, frozen=True):
    """Body of `GET /api/interviews`: the caller's interviews, newest first."""

    interviews: list[Interview]


class MessageList(Struct, frozen=True):
    """Body of `GET /api/interviews/{id}/messages`: the transcript, in order."""

    messages: list[Message]


class TranscribedWord(Struct, frozen=True, kw_only=True):
    """One word of a transcription."""

    start: float
    """Start of the word, in seconds from the beginning of the recording."""
    end: float
    """End of the word, in seconds from the beginning of the recording."""
    text: str
    probability: float = 1.0
    """Confidence of the speech model in the word, from 0 to 1."""


class TranscribedSegment(Struct, frozen=True, kw_only=True):
    """One segment of a transcription."""

    start: float
    """Start of the segment, in seconds from the beginning of the recording."""
    end: float
    """End of the segment, in seconds from the beginning of the recording."""
    text: str
    probability: float = 1.0
    """Geometric mean of the segment's token probabilities, from 0 to 1."""
    drop_reason: str = field(default="", name="why_dropped")
    """Reason why the segment was dropped: `silence`, `unlikely`, `repetition` or `unintelligible`;
    empty if it was kept."""
    words: list[TranscribedWord] = []


class SpokenAnswer(Struct, frozen=True, kw_only=True):
    """Body of `GET /api/interviews/{id}/messages/{message}/speech`: an answer's transcription."""

    text: str
    """Text of the answer."""
    seconds: float
    """Length of the recording in seconds."""
    confidence: float = 1.0
    """Geometric mean of the token probabilities of all speech, from 0 to 1."""
    language: str = ""
    """Language of the answer, as the speech model names it; empty if it is unknown."""
    segments: list[TranscribedSegment] = []
    """Segments from which the answer was assembled."""
    dropped: list[TranscribedSegment] = []
    """Segments that were dropped as likely hallucinations of the speech model."""


class Health(Struct, frozen=True, kw_only=True):
    """Body of `GET /health/live` and `GET /health/ready`."""

    status: Literal["ok", "starting", "unavailable"]
    version: str
    models: dict[str, str] = {}
    """State of each model, by the model's job: `loading`, `ready` or `failed`."""
