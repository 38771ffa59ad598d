"""Bodies of the REST API that are not things of the protocol themselves.

Like the protocol it depends on msgspec alone, and clients import it.
"""

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
    error: Error


class RoomToken(Struct, frozen=True):
    token: str
    expires_at: float


class InterviewList(Struct, frozen=True):
    interviews: list[Interview]


class MessageList(Struct, frozen=True):
    messages: list[Message]


class TranscribedWord(Struct, frozen=True, kw_only=True):
    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    probability: float = 1.0


class TranscribedSegment(Struct, frozen=True, kw_only=True):
    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    probability: float = 1.0
    """Geometric mean of the tokens' probabilities."""
    drop_reason: str = field(default="", name="why_dropped")
    """For a segment that was set aside: `silence`, `unlikely` or `repetition`."""
    words: list[TranscribedWord] = []


class SpokenAnswer(Struct, frozen=True, kw_only=True):
    """How a spoken answer was heard."""

    text: str
    seconds: float
    """Of the recording."""
    segments: list[TranscribedSegment] = []
    """What the answer is made of."""
    dropped: list[TranscribedSegment] = []
    """What was taken for invented and set aside."""


class Health(Struct, frozen=True, kw_only=True):
    status: Literal["ok", "starting", "unavailable"]
    version: str
    models: dict[str, str] = {}
    """Each model's job and its state: `loading`, `ready` or `failed`."""
