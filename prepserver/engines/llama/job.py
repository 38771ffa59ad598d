"""State of one prompt, from its arrival to its last token."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.llama.kv_slots import KvSlot
from prepserver.engines.llama.option_tree import OptionTree
from prepserver.engines.llama.sampler import Sampler
from prepserver.engines.types import Priority, Prompt

__all__ = ["Job"]

_new_decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(kw_only=True)
class Job:
    """Prompt that is waiting, being prefilled or being answered.

    Implements `prepserver.engines.llama.schedule.ScheduledJob`.
    """

    call: EngineCall
    prompt: Prompt
    prompt_tokens: Sequence[int]
    max_tokens: int
    """Maximum number of reply tokens; 0 for a prefill."""
    option_tree: OptionTree | None = None
    """Options of which the reply is one; None if the reply is generated."""
    arrived_at: float
    """Arrival time in seconds on the engine's clock."""
    is_prefill: bool = False
    """True if only the KV cache is computed, without a reply."""
    started_at: float = 0.0
    """Time at which the job got its slot, in seconds on the engine's clock; 0 while the job is
    waiting."""
    slot: KvSlot | None = None
    """The job's KV slot; None while the job is waiting."""
    sampler: Sampler | None = None
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _new_decoder("replace"))
    """Decoder for the reply's bytes. An incomplete character is buffered until its remaining bytes
    arrive, and dropped if the reply ends first."""
    next_token: int | None = None
    """Token that was sampled last and is computed next; None before the first token is sampled."""
    cached: int = 0
    """Number of prompt tokens that were found in the KV cache."""
    generated: int = 0
    """Number of reply tokens sampled so far."""
    probabilities: tuple[float, ...] = ()
    """Probabilities of the options; empty until they are computed."""

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
        """True if the job is a prefill and has been computed.

        A prefill omits the last token of its prompt, because a later prompt must compute that token
        again to get its logits.
        """
        return self.is_prefill and self.computed == len(self.prompt_tokens) - 1
