"""Requests to and results from models, and the protocols that every engine implements."""

import enum
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, Protocol

from msgspec import Struct

__all__ = [
    "ChatTurn",
    "EngineStats",
    "LanguageModel",
    "ModelInfo",
    "PartialTranscript",
    "Priority",
    "Prompt",
    "Segment",
    "SpeechModel",
    "SpeechStats",
    "TextDelta",
    "Transcription",
    "Usage",
    "Word",
]


class Priority(enum.IntEnum):
    """Rank of a prompt when several compete for the model; the lowest is served first."""

    ANSWER = 0
    """A person is waiting for the next words."""
    REVIEW = 1
    PREFILL = 2
    """Speculative work; no caller is waiting for a reply."""


class ChatTurn(Struct, frozen=True):
    role: str
    """`system`, `user` or `assistant`."""
    content: str


class Prompt(Struct, frozen=True, kw_only=True):
    """One request to a language model: either `text` to continue or a chat in `turns`."""

    purpose: str = ""
    """Purpose of the reply. Engines may log it; the scripted model chooses its reply by it."""
    conversation: str = ""
    """Interview whose KV cache this prompt extends, in memory or offloaded to disk. If empty, the
    prompt's cache belongs to no interview."""
    priority: Priority = Priority.ANSWER
    text: str = ""
    turns: tuple[ChatTurn, ...] = ()
    opening: str = ""
    """First words of the reply, which the model continues. They are not repeated in the output."""
    grammar: str = ""
    """GBNF grammar that the reply, without `opening`, must match."""
    schema: dict[str, Any] | None = None
    """JSON schema that the reply must match; excludes `grammar`."""
    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    seed: int = 0


class TextDelta(Struct, frozen=True, tag="delta"):
    """The next piece of a reply, in whole characters."""

    text: str


class Usage(Struct, frozen=True, kw_only=True, tag="usage"):
    """Token counts and compute time; the last event of every reply."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were taken from the KV cache instead of being computed."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """Seconds from the start of the work to its end, excluding time in the queue."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """Properties of a loaded language model."""

    name: str
    parameters: int
    """Number of weights; 0 when unknown, as for some remote models."""
    context: int
    """Maximum length of a conversation in tokens."""
    parallel: int = 1
    """Prompts that the model processes at once. The gateway queues the rest by priority."""

    @property
    def few_shot(self) -> bool:
        """True below about one billion parameters, where a model follows examples better than
        instructions."""
        return 0 < self.parameters < 1_000_000_000


class EngineStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """Current load of a language engine, and its totals since the process started."""

    slots: int = 0
    """KV slots: the number of prompts that can be processed at once."""
    active: int = 0
    """Prompts being processed."""
    waiting: int = 0
    """Prompts waiting for a slot."""
    batches: int = 0
    """Batches computed."""
    batch_tokens: int = 0
    """Tokens in all batches; `batch_tokens / batches` is the mean batch size."""
    batch_seconds: float = 0.0
    """Seconds spent computing batches."""
    prompt_tokens: int = 0
    """Tokens of all prompts, cached or computed."""
    cached_tokens: int = 0
    """Prompt tokens that were taken from the KV cache instead of being computed."""
    completion_tokens: int = 0
    """Tokens generated."""
    tokens_per_second: float = 0.0
    """Generation speed of all replies together, averaged over recent batches that generated."""
    evictions: int = 0
    """Conversations that lost their slot to another one."""
    restores: int = 0
    """Conversations restored from disk."""
    offloaded: int = 0
    """Conversations on disk."""
    offloaded_bytes: int = 0


class Word(Struct, frozen=True, kw_only=True):
    """One word with its time range."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds from the beginning of the recording."""
    text: str
    probability: float = 1.0


class Segment(Struct, frozen=True, kw_only=True):
    """A transcribed stretch of speech."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds from the beginning of the recording."""
    text: str
    probability: float = 1.0
    """Geometric mean of the token probabilities, 0 to 1."""
    drop_reason: str = ""
    """`silence`, `unlikely` or `repetition` if the segment is left out of the text, else empty."""
    words: tuple[Word, ...] = ()
    """Words in order. If an engine reports no word times, the segment's duration is divided among
    its words by their length."""


class PartialTranscript(Struct, frozen=True, kw_only=True, tag="caption"):
    """Transcript of a recording in progress."""

    final: str
    """Text of finished segments. It only grows, and the final transcript begins with it."""
    committed: str = ""
    """Text of the open segment on which two passes in a row agreed."""
    interim: str = ""
    """Rest of the open segment, which may still change."""
    seconds: float = 0.0
    """Seconds of audio that this caption covers."""


class Transcription(Struct, frozen=True, kw_only=True, tag="speech"):
    """Transcript of a complete recording."""

    text: str
    segments: tuple[Segment, ...] = ()
    dropped: tuple[Segment, ...] = ()
    """Segments left out of `text`, each with its `drop_reason`."""
    seconds: float = 0.0
    """Duration of the recording in seconds."""


class SpeechStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """Current load of a speech engine."""

    recordings: int = 0
    """Open recordings."""
    waiting: int = 0
    """Finished segments not yet transcribed."""
    caption_lag: float = 0.0
    """Seconds of received audio that the last caption did not cover; the maximum over all open
    recordings."""


class LanguageModel(Protocol):
    """An engine that generates text."""

    async def start(self) -> ModelInfo:
        """Load the model; may be called again after a failure. Raises InferenceError."""

    def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield text deltas, then one Usage. Closing the generator frees the model at once.

        Raises InferenceError.
        """

    async def prefill(self, prompt: Prompt) -> None:
        """Compute the KV cache of a prompt before its reply is requested.

        A later prompt of the same conversation reuses the prefix that the two share. Raises
        InferenceError.
        """

    async def offload(self, conversation: str) -> None:
        """Move a conversation's KV state to disk. The next prompt of the conversation restores it.

        Raises InferenceError.
        """

    async def discard(self, conversation: str) -> None:
        """Delete a conversation's KV state from memory and disk. Raises InferenceError."""

    async def stats(self) -> EngineStats:
        """Return the counters, all zero if the engine is not running or does not count.

        Raises InferenceError.
        """

    async def close(self) -> None: ...


class SpeechModel(Protocol):
    """An engine that transcribes speech."""

    @property
    def name(self) -> str:
        """Name of the model in logs and metrics."""

    async def start(self) -> None:
        """Load the model; may be called again after a failure. Raises InferenceError."""

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Transcription:
        """Transcribe a recording: PCM16, little-endian, 16 kHz, mono.

        `vocabulary` lists words to expect. Raises InferenceError.
        """

    def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Transcribe a recording while it is being made.

        `audio` yields chunks of PCM as they arrive and ends with the recording. Yields captions,
        then one Transcription. Closing the generator frees the model. Raises InferenceError.
        """

    async def stats(self) -> SpeechStats:
        """Return the load, all zero if the engine is not running or does not count.

        Raises InferenceError.
        """

    async def close(self) -> None: ...
