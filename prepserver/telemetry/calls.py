"""One call of a model: who asks for what, and what became of it."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode

__all__ = ["CANCELLED", "DROPPED", "OK", "Call", "CallRecord", "CallStats", "Kind"]

METADATA_PAIRS = 5
METADATA_LENGTH = 200
"""Characters of a name or a value of metadata."""

OK, CANCELLED, DROPPED = "ok", "cancelled", "dropped"
"""Outcomes; any other is the code of an error. Dropped is a prefill that there was no room for."""

Kind = Literal["generate", "transcribe", "listen", "prefill"]


class Call(Struct, frozen=True, kw_only=True):
    """Who asks a model for what, and why."""

    purpose: str
    user: str
    interview: str
    request: str
    """Names the request: the same name is charged once, however often it is tried."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Up to five pairs that are logged with the call."""

    def __post_init__(self) -> None:
        """Raises BadRequest when there is more metadata than a log should hold."""
        words = (*self.metadata, *self.metadata.values())
        if len(self.metadata) > METADATA_PAIRS or any(len(w) > METADATA_LENGTH for w in words):
            raise BadRequest(
                f"A call takes at most {METADATA_PAIRS} pairs of metadata, each name and value of "
                f"at most {METADATA_LENGTH} characters.",
                code=ErrorCode.BAD_METADATA,
            )


class CallRecord(Struct, kw_only=True):
    """What is known of a call; filled in while it goes on, and logged at its end.

    All times in seconds.
    """

    at: float
    """When it began, since the Unix epoch."""
    kind: Kind
    purpose: str
    user: str
    interview: str
    request: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    """The last one that was tried."""
    step: int = 0
    """Its place in the fallback chain; 0 is the first."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    audio: float = 0.0
    """Of sound."""
    queued: float = 0.0
    """Waited until a model took it up."""
    first: float | None = None
    """From its beginning to the first words; None when there were none."""
    lag: float | None = None
    """From the end of the sound to its transcript, for one that was listened to."""
    caption_lag: float | None = None
    """Of sound that had come and was not in a caption yet when that was shown, at most."""
    duration: float = 0.0
    compute: float = 0.0
    """The model worked on it; nothing for a reply that was shared."""
    retries: int = 0
    shared: Literal["", "cache", "flight"] = ""
    """Where the reply came from when no model was asked for it."""
    outcome: str = OK
    prompt: str | None = None
    """Its text and the reply's, if texts are logged at all."""
    reply: str | None = None


class CallStats(Struct, kw_only=True):
    """What one run through a chain has come to; filled in while it goes on."""

    model: str = ""
    step: int = 0
    retries: int = 0
    queued: float = 0.0
    """Seconds waited for a place at an engine."""
    begun: float | None = None
    """On the monotonic clock: when an engine took it up."""
    first: float | None = None
    """On the monotonic clock: when the first event came."""
