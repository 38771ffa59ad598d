"""Requests to models, results from models, and the protocols that every engine implements."""

import enum
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, Protocol

from msgspec import Struct

__all__ = [
    "NOTHING_EXPECTED",
    "ChatTurn",
    "EngineStats",
    "ExpectedSpeech",
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

MIN_CONTEXT = 2_048
"""Minimum context, in tokens, that has room for instructions, an answer and a reply."""


class Priority(enum.IntEnum):
    """Rank of a prompt when several prompts compete for a model.

    The gateway serves the lowest rank first. The llama.cpp engine also considers how long each
    prompt has waited.
    """

    ANSWER = 0
    """Rank of a reply for which a person is waiting."""
    REVIEW = 1
    PREFILL = 2
    """Rank of speculative work: no person is waiting for the result."""


class ChatTurn(Struct, frozen=True):
    role: str
    """Author of the turn: `system`, `user` or `assistant`."""
    content: str


class Prompt(Struct, frozen=True, kw_only=True):
    """One request to a language model: either `text` to continue or a chat in `turns`."""

    purpose: str = ""
    """Purpose of the reply, such as `hint`. Without a schema, the scripted model chooses its reply
    by the purpose. With a schema, a remote model receives the purpose as the name of the
    schema."""
    conversation: str = ""
    """Id of the interview whose KV cache this prompt extends, in memory or on disk. If empty, the
    prompt's cache belongs to no interview."""
    priority: Priority = Priority.ANSWER
    text: str = ""
    turns: tuple[ChatTurn, ...] = ()
    opening: str = ""
    """First words of the reply, which the model continues. The output does not repeat these
    words."""
    grammar: str = ""
    """GBNF grammar that the reply, without `opening`, must match."""
    schema: dict[str, Any] | None = None
    """JSON schema that the reply must match. A prompt must not have both a schema and a
    grammar."""
    options: tuple[str, ...] = ()
    """Replies of which the model chooses one: 2 to 32 different, non-empty strings. The reply is
    the most probable option, whatever the sampling settings and `max_tokens`. `opening` applies. A
    prompt with options must not have a schema or a grammar."""
    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    seed: int = 0
    skip_thought: bool = False
    """True to ask a reasoning model to reply without thinking first."""


class TextDelta(Struct, frozen=True, tag="delta"):
    """Next part of a streamed reply, in whole characters."""

    text: str


class Usage(Struct, frozen=True, kw_only=True, tag="usage"):
    """Token counts and compute time of a reply. Every complete reply ends with one Usage."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Number of prompt tokens that were taken from the KV cache instead of being computed."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """Number of seconds spent on the reply, excluding the time in the queue."""
    thought: bool = False
    """True if the model has thought before or within its reply."""
    probabilities: tuple[float, ...] = ()
    """Probability of each of the prompt's options, in their order; the sum is 1. If a remote model
    reports no probabilities, the option that it has written has the probability 1. Empty if the
    prompt has no options."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """Properties of a loaded language model."""

    name: str
    parameters: int
    """Number of weights; 0 if the number is unknown, as for some remote models."""
    context: int
    """Maximum length of a conversation in tokens, prompt and reply together."""
    parallel: int = 1
    """Number of prompts that the model processes at once. The gateway queues further prompts by
    priority."""
    gpu: bool = False
    """True if llama.cpp computes layers on a graphics card."""

    @property
    def few_shot(self) -> bool:
        """True if the model is known to have fewer than one billion parameters, or if its context
        has no room for instructions. Rules make all replies for such a model."""
        return 0 < self.parameters < 1_000_000_000 or self.context < MIN_CONTEXT

    @property
    def writes_follow_ups(self) -> bool:
        """False if the model is known to have fewer than three billion parameters.

        Of the follow-ups that a model of 1.5 billion parameters wrote, two in three mistook the
        answer or asked for what it had said.
        """
        return self.parameters == 0 or self.parameters >= 3_000_000_000


class EngineStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """Current load of a language engine, and its totals since the engine's process started."""

    slots: int = 0
    """Number of KV slots, which is the number of prompts that can be processed at once."""
    active: int = 0
    """Number of prompts that are being processed."""
    waiting: int = 0
    """Number of prompts that are waiting for a slot."""
    batches: int = 0
    """Number of batches computed."""
    batch_tokens: int = 0
    """Number of tokens in all batches; `batch_tokens / batches` is the mean batch size."""
    batch_seconds: float = 0.0
    """Seconds spent computing batches."""
    prompt_tokens: int = 0
    """Number of tokens, cached or computed, in all prompts that were given a slot."""
    cached_tokens: int = 0
    """Number of prompt tokens that were taken from the KV cache instead of being computed."""
    completion_tokens: int = 0
    """Number of tokens generated."""
    tokens_per_second: float = 0.0
    """Number of tokens generated per second, for all replies together, averaged over recent batches
    that generated tokens."""
    evictions: int = 0
    """Number of times that a conversation lost its slot to another conversation."""
    restores: int = 0
    """Number of times that a conversation was restored from disk."""
    offloaded: int = 0
    """Number of conversations that are stored on disk."""
    offloaded_bytes: int = 0


class ExpectedSpeech(Struct, frozen=True, kw_only=True):
    """What is known about a recording before it is transcribed."""

    vocabulary: str = ""
    """Sentences with words to expect, in their usual spelling."""
    language: str = ""
    """Language to expect, as an ISO 639 code; empty if it is unknown."""


NOTHING_EXPECTED = ExpectedSpeech()


class Word(Struct, frozen=True, kw_only=True):
    """One word of a transcript with its time range."""

    start: float
    """Start of the word, in seconds from the beginning of the recording."""
    end: float
    """End of the word, in seconds from the beginning of the recording."""
    text: str
    probability: float = 1.0


class Segment(Struct, frozen=True, kw_only=True):
    """Transcribed part of a recording."""

    start: float
    """Start of the segment, in seconds from the beginning of the recording."""
    end: float
    """End of the segment, in seconds from the beginning of the recording."""
    text: str
    probability: float = 1.0
    """Geometric mean of the token probabilities, 0 to 1; 1 if no probability is known."""
    drop_reason: str = ""
    """Reason why the segment is left out of the transcript: `silence`, `unlikely`, `repetition` or
    `unintelligible` (speech that the model does not understand); empty if the segment is part of
    the transcript."""
    words: tuple[Word, ...] = ()
    """Words in order. If whisper.cpp reports no word times, the segment's duration is divided among
    the words in proportion to their lengths. If a remote model reports no word times, a segment
    that is kept has no words."""


class PartialTranscript(Struct, frozen=True, kw_only=True, tag="caption"):
    """Transcript of a recording in progress."""

    final: str
    """Text of the finished spans. Later captions only append to this text, and the final transcript
    begins with this text."""
    committed: str = ""
    """Beginning of the open span's text, on which the last two passes agreed."""
    interim: str = ""
    """Rest of the open span's text, which may still change."""
    seconds: float = 0.0
    """Seconds of audio, from the beginning of the recording, that the caption covers."""


class Transcription(Struct, frozen=True, kw_only=True, tag="speech"):
    """Transcript of a complete recording."""

    text: str
    segments: tuple[Segment, ...] = ()
    dropped: tuple[Segment, ...] = ()
    """Segments left out of `text`, each with its `drop_reason`."""
    seconds: float = 0.0
    """Duration of the recording in seconds."""
    confidence: float = 1.0
    """Geometric mean of the token probabilities over all speech, kept or dropped, 0 to 1; 1 if no
    speech was heard or no probability is known."""
    language: str = ""
    """Language of the text, as the model names it; empty if it is unknown."""
    english_only: bool = False
    """True if the model is known to understand no other language than English."""


class SpeechStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """Current load of a speech engine."""

    recordings: int = 0
    """Number of open recordings."""
    waiting: int = 0
    """Number of finished spans that are not transcribed yet."""
    caption_lag: float = 0.0
    """Seconds of received audio that a recording's last caption did not cover when the caption was
    sent; the maximum over all open recordings."""


class LanguageModel(Protocol):
    """Engine that generates text."""

    async def start(self) -> ModelInfo:
        """Load the model and return its properties. Raises InferenceError.

        The method may be called again after a failure.
        """

    def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield text deltas, then one Usage. Closing the generator cancels the computation.

        Raises InferenceError.
        """

    async def prefill(self, prompt: Prompt) -> None:
        """Compute the KV cache of a prompt before its reply is requested.

        A later prompt of the same conversation reuses the prefix that both prompts share. Raises
        InferenceError.
        """

    async def offload(self, conversation: str) -> None:
        """Move a conversation's KV state to disk.

        The conversation's next prompt restores the state. Raises InferenceError.
        """

    async def discard(self, conversation: str) -> None:
        """Delete a conversation's KV state from memory and disk. Raises InferenceError."""

    async def stats(self) -> EngineStats:
        """Return the load and totals; all are zero if the engine is not running or keeps no counts.

        Raises InferenceError.
        """

    async def close(self) -> None: ...


class SpeechModel(Protocol):
    """Engine that transcribes speech."""

    @property
    def name(self) -> str:
        """Name of the model in logs and metrics."""

    async def start(self) -> None:
        """Load the model. Raises InferenceError.

        The method may be called again after a failure.
        """

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        """Transcribe a recording of PCM16 little-endian, 16 kHz, mono.

        A model that knows several languages transcribes speech in the language that it hears, which
        may be another than the expected one. Raises InferenceError.
        """

    def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Yield captions while the recording is in progress, then one Transcription.

        `audio` yields chunks of PCM as they arrive and ends when the recording ends. Closing the
        generator cancels the transcription. Raises InferenceError.
        """

    async def stats(self) -> SpeechStats:
        """Return the load; all values are zero if the engine is not running or keeps no counts.

        Raises InferenceError.
        """

    async def close(self) -> None: ...
