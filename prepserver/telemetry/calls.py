"""Model calls: the request, the record that is logged, and the statistics of its execution."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode

__all__ = ["CANCELLED", "DROPPED", "OK", "Call", "CallKind", "CallRecord", "CallStats"]

MAX_METADATA_PAIRS = 5
MAX_METADATA_LENGTH = 200
"""Maximum length of a metadata name or value, in code points."""

OK, CANCELLED, DROPPED = "ok", "cancelled", "dropped"
"""Outcomes that are not errors; any other outcome is an error code. DROPPED is the outcome of a
prefill that found no idle slot or no loaded model."""

CallKind = Literal["generate", "transcribe", "transcribe_live", "prefill"]


class Call(Struct, frozen=True, kw_only=True):
    """Origin and purpose of a request to a model."""

    purpose: str
    user: str
    interview: str
    request: str
    """Name of the request. Retries under the same name are charged once."""
    model_set: str = ""
    """Name of the set of models that the call uses; empty for the set of new interviews."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Up to five name-value pairs, logged with the call."""

    def __post_init__(self) -> None:
        """Raise BadRequest if there are too many metadata pairs, or a name or value is too long."""
        words = (*self.metadata, *self.metadata.values())
        if len(self.metadata) > MAX_METADATA_PAIRS or any(
            len(word) > MAX_METADATA_LENGTH for word in words
        ):
            raise BadRequest(
                f"A call accepts at most {MAX_METADATA_PAIRS} metadata pairs, with names and "
                f"values of at most {MAX_METADATA_LENGTH} characters.",
                code=ErrorCode.BAD_METADATA,
            )


class CallRecord(Struct, kw_only=True):
    """Record of a call for the log, filled in while the call runs. Durations are in seconds."""

    at: float
    """Start of the call, in seconds since the Unix epoch."""
    kind: CallKind
    purpose: str
    user: str
    interview: str
    request: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    """Last model that was tried; empty if the call reached no model."""
    fallback_index: int = 0
    """Position of `model` in the fallback chain; 0 is the primary model."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Number of prompt tokens that were served from the KV cache."""
    completion_tokens: int = 0
    audio: float = 0.0
    """Duration of the recording; 0 for a call to a language model."""
    queued: float = 0.0
    """Time spent in the queues of models."""
    first_token: float | None = None
    """Time from the start of the call to the first text; None if there was no text."""
    transcript_lag: float | None = None
    """Time from the end of the audio to the transcript; None except in a live transcription."""
    caption_lag: float | None = None
    """Maximum duration of received audio that a caption did not cover when the caption was sent;
    None if no caption was sent."""
    duration: float = 0.0
    compute: float = 0.0
    """Time for which a model worked on the call; 0 for a shared reply."""
    retries: int = 0
    shared: Literal["", "cache", "in_flight"] = ""
    """Origin of a reply that was computed for another call; empty for any other reply."""
    outcome: str = OK
    prompt: str | None = None
    """Text of the prompt; None if texts are not logged or the interview was deleted."""
    reply: str | None = None
    """Text of the reply; None if texts are not logged or the interview was deleted."""


class CallStats(Struct, kw_only=True):
    """Statistics of one pass through a fallback chain, filled in during the pass."""

    model: str = ""
    fallback_index: int = 0
    retries: int = 0
    queued: float = 0.0
    """Seconds spent in the queues of models."""
    started_at: float | None = None
    """Monotonic time in seconds at which a model last started work; None before that."""
    first_event_at: float | None = None
    """Monotonic time of the first event, in seconds; None before that."""
