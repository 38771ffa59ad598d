"""One prompt that is being worked on, from its arrival to its last word."""

from collections.abc import Sequence
from dataclasses import dataclass

from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.llama.detokenizer import Detokenizer
from prepserver.engines.llama.kv_slots import KvSlot
from prepserver.engines.llama.sampler import Sampler
from prepserver.engines.types import Priority, Prompt

__all__ = ["Job"]


@dataclass(kw_only=True)
class Job:
    """Implements `prepserver.engines.llama.schedule.Reader`."""

    call: EngineCall
    wanted: Prompt
    prompt: Sequence[int]
    """Its tokens."""
    budget: int
    """Tokens of the reply, at most; of a prefill 0."""
    arrived: float
    ahead: bool = False
    """Whether it is a prefill, which nobody waits for."""
    started: float = 0.0
    sequence: KvSlot | None = None
    """Where it is worked on; None while it waits."""
    sampler: Sampler | None = None
    streaming: Detokenizer | None = None
    upcoming: int | None = None
    cached: int = 0
    written: int = 0

    @property
    def conversation(self) -> str:
        return self.wanted.conversation

    @property
    def priority(self) -> Priority:
        return Priority.PREFILL if self.ahead else self.wanted.priority

    @property
    def done(self) -> int:
        return 0 if self.sequence is None else len(self.sequence.tokens)
