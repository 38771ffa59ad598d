"""What goes into a model and what comes out: plain data, and the two protocols of engines."""

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
    """Who goes first when there is more to compute than can be done at once."""

    ANSWER = 0
    """Somebody waits for the next words."""
    REVIEW = 1
    PREFILL = 2
    """Nobody waits: it is work done ahead."""


class ChatTurn(Struct, frozen=True):
    role: str
    """`system`, `user` or `assistant`."""
    content: str


class Prompt(Struct, frozen=True, kw_only=True):
    """One request to a language model: either `text` to go on from, or a chat in `turns`."""

    purpose: str = ""
    """What it is for; engines may log it, the scripted model plays by it."""
    conversation: str = ""
    """Names the interview whose cached keys and values this prompt goes on from, also after they
    were parked on disk. Empty: nothing is kept for it."""
    priority: Priority = Priority.ANSWER
    text: str = ""
    turns: tuple[ChatTurn, ...] = ()
    opening: str = ""
    """The first words of the reply, decided already: the model goes on from them. They are not
    repeated in what it gives back."""
    grammar: str = ""
    """GBNF that the reply (without `opening`) must match."""
    schema: dict[str, Any] | None = None
    """A JSON schema that the reply must match; excludes `grammar`."""
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    seed: int = 0


class TextDelta(Struct, frozen=True, tag="delta"):
    """More text; never part of a character."""

    text: str


class Usage(Struct, frozen=True, kw_only=True, tag="usage"):
    """Last of every reply."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of `prompt_tokens`, those that were not computed again."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """From the start of the work to its end, waiting not counted."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a language model is, once it is loaded."""

    name: str
    parameters: int
    """0 when nobody tells, as of a model elsewhere."""
    context: int
    """Tokens of one conversation."""
    parallel: int = 1
    """How many prompts it works on at once; more wait at the gateway, by priority."""
    computes_on: str = ""
    """For people: how many threads, and whether a GPU."""

    @property
    def few_shot(self) -> bool:
        """Below about one billion parameters a model follows examples, not instructions."""
        return 0 < self.parameters < 1_000_000_000


class EngineStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """What a language engine has done since its process started, and does at the moment."""

    slots: int = 0
    """Prompts that can be worked on at the same time."""
    active: int = 0
    """Prompts that are worked on now."""
    waiting: int = 0
    """Prompts that wait for a sequence."""
    batches: int = 0
    """Computations; each is one batch."""
    batch_tokens: int = 0
    """Tokens in all these batches; `batch_tokens / batches` is the mean size of a batch."""
    seconds: float = 0.0
    """Spent on them."""
    prompt_tokens: int = 0
    """Of all prompts, those that were read and those that were not read again."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    tokens_per_second: float = 0.0
    """Written by all replies together, over the last steps in which any were."""
    evictions: int = 0
    """Conversations that were moved out of the cache for want of room."""
    restores: int = 0
    """Conversations that came back from disk."""
    offloaded: int = 0
    """Conversations on disk."""
    offloaded_bytes: int = 0


class Word(Struct, frozen=True, kw_only=True):
    """One word and when it was said."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    probability: float = 1.0


class Segment(Struct, frozen=True, kw_only=True):
    """A stretch of speech."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    probability: float = 1.0
    """Geometric mean of the tokens' probabilities, 0 to 1."""
    drop_reason: str = ""
    """For a segment that was left out: `silence`, `unlikely` or `repetition`."""
    words: tuple[Word, ...] = ()
    """In order. Where an engine does not know when each was said, its share of the segment's time
    goes by its length."""


class PartialTranscript(Struct, frozen=True, kw_only=True, tag="caption"):
    """What was heard so far of a recording that goes on."""

    final: str
    """Of finished segments: it will be in the transcript as it is, and only grows."""
    committed: str = ""
    """Of the segment that is being spoken, what two passes in a row agreed on."""
    interim: str = ""
    """The rest of it, which may still change."""
    seconds: float = 0.0
    """Of the recording, those that it was made from."""


class Transcription(Struct, frozen=True, kw_only=True, tag="speech"):
    """A transcribed recording."""

    text: str
    segments: tuple[Segment, ...] = ()
    dropped: tuple[Segment, ...] = ()
    seconds: float = 0.0
    """Of audio."""


class SpeechStats(Struct, frozen=True, kw_only=True, tag="stats"):
    """How busy an engine that listens is at the moment."""

    recordings: int = 0
    """That are open."""
    waiting: int = 0
    """Finished segments that are still to be written down."""
    caption_lag: float = 0.0
    """Seconds of sound that had come, and were not in it, when a speaker's last caption was sent;
    the largest over those who speak now."""


class LanguageModel(Protocol):
    """An engine that writes."""

    async def start(self) -> ModelInfo:
        """Load; again after a failure. Raises InferenceError."""

    def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Deltas, then one Usage. Closing the generator frees the model at once.

        Raises InferenceError.
        """

    async def prefill(self, prompt: Prompt) -> None:
        """Read a prompt of a conversation ahead of its `generate`; what a later prompt has in
        common with it need not be computed then. Raises InferenceError."""

    async def offload(self, conversation: str) -> None:
        """Move what is kept for a conversation to disk, until a prompt goes on from it."""

    async def discard(self, conversation: str) -> None:
        """Remove what is kept for a conversation, from disk too."""

    async def stats(self) -> EngineStats:
        """All zero when the engine does not run, or keeps no count. Raises InferenceError."""

    async def close(self) -> None: ...


class SpeechModel(Protocol):
    """An engine that listens."""

    @property
    def name(self) -> str:
        """Of the model, for logs and figures."""

    async def start(self) -> None:
        """Load; again after a failure. Raises InferenceError."""

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Transcription:
        """Write down PCM16 little-endian, 16 kHz, mono; `vocabulary` names words to expect.

        Raises InferenceError.
        """

    def transcribe_live(
        self, audio: AsyncIterable[bytes], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Write down while it is spoken: `audio` gives pieces of PCM as they come and ends with
        the recording. Captions, then one Speech. Closing the generator frees the model.

        Raises InferenceError.
        """

    async def stats(self) -> SpeechStats:
        """All zero when the engine does not run, or keeps no count. Raises InferenceError."""

    async def close(self) -> None: ...
