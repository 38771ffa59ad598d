"""The state of one prompt, from its arrival to its last token."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.llama.kv_slots import KvSlot
from prepserver.engines.llama.sampler import Sampler
from prepserver.engines.types import Priority, Prompt

__all__ = ["Job"]

_new_decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(kw_only=True)
class Job:
    """A prompt being prefilled or answered.

    Implements `prepserver.engines.llama.schedule.ScheduledJob`.
    """

    call: EngineCall
    prompt: Prompt
    prompt_tokens: Sequence[int]
    max_tokens: int
    """Maximum number of reply tokens; 0 for a prefill."""
    arrived_at: float
    """Arrival time in seconds on the engine's clock."""
    is_prefill: bool = False
    """True if only the KV cache is computed, without a reply."""
    started_at: float = 0.0
    """Time at which the job got its slot, in seconds on the engine's clock."""
    slot: KvSlot | None = None
    """The job's KV slot; None while the job is waiting."""
    sampler: Sampler | None = None
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _new_decoder("replace"))
    """Decoder of the reply's bytes. It buffers the first bytes of a character; an incomplete
    character at the end of the reply is dropped."""
    next_token: int | None = None
    """Last sampled token, which is computed next; None until the first one is sampled."""
    cached: int = 0
    """Prompt tokens that were found in the KV cache."""
    generated: int = 0
    """Reply tokens sampled so far."""

    @property
    def conversation(self) -> str:
        return self.prompt.conversation

    @property
    def priority(self) -> Priority:
        return Priority.PREFILL if self.is_prefill else self.prompt.priority

    @property
    def computed(self) -> int:
        return 0 if self.slot is None else len(self.slot.tokens)

    @property
    def prefilled(self) -> bool:
        """True once a prefill is finished.

        A prefill omits the last token of its prompt: a later prompt recomputes it for its logits.
        """
        return self.is_prefill and self.computed == len(self.prompt_tokens) - 1
