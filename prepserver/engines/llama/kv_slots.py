"""Assignment of conversations to KV slots, and of prompts to cached prefixes.

A prompt usually extends the previous prompt of its interview, so most of its tokens are already in
the KV cache. A conversation keeps its slot while there are enough slots. If another slot shares a
longer prefix with the prompt, that prefix is copied. When every slot has an owner and another
conversation needs a slot, the least recently used conversation in an idle slot is evicted.

The module is pure: `prepserver.engines.llama.engine` carries out the plans.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

__all__ = ["RECOMPUTE_LIMIT", "KvSlot", "KvSlots", "SlotPlan", "shared_prefix_length"]

RECOMPUTE_LIMIT = 64
"""Number of tokens up to which KV state is dropped and recomputed rather than kept: about the
length of one reply."""


@dataclass(kw_only=True)
class KvSlot:
    """One sequence in llama.cpp's KV cache."""

    id: int
    tokens: list[int] = field(default_factory=list)
    """Tokens whose keys and values the slot holds."""
    conversation: str = ""
    """Id of the conversation that owns the slot; empty if the slot has no owner."""
    busy: bool = False
    last_used: int = 0
    """Logical time of the slot's last assignment; each assignment of any slot advances the time by
    1."""


class SlotPlan(Struct, frozen=True, kw_only=True):
    """Operations to carry out on the KV cache, in the order of the fields, before a prompt is
    computed."""

    slot: int
    """Id of the slot in which the prompt is computed."""
    evict: bool = False
    """True to save the other conversation that owns the slot. The saved tokens stay in the slot,
    because the prompt may share a prefix with them."""
    restore: bool = False
    """True to load the KV state of the prompt's conversation from disk into the slot."""
    copy_from: int | None = None
    """Id of the slot whose content is copied into the prompt's slot; None to copy nothing."""
    keep: int = 0
    """Number of leading tokens to keep in the slot; all later tokens are removed."""


class KvSlots:
    """All slots of the KV cache."""

    def __init__(self, count: int) -> None:
        self.all = tuple(KvSlot(id=id) for id in range(count))
        self._now = 0

    def __getitem__(self, id: int) -> KvSlot:
        return self.all[id]

    @property
    def idle_count(self) -> int:
        return sum(not slot.busy for slot in self.all)

    def find(self, conversation: str) -> KvSlot | None:
        """Return the slot that the conversation owns, or None if the conversation owns no slot."""
        owned = (slot for slot in self.all if conversation and slot.conversation == conversation)
        return next(owned, None)

    def plan(self, conversation: str, prompt: Sequence[int], stored: int = 0) -> SlotPlan | None:
        """Return a plan that assigns a slot and a cached prefix to a prompt, or None if every slot
        is busy.

        `stored` is the number of prompt tokens that the conversation's state on disk covers. The
        last token of the prompt is always recomputed: its logits give the first new token.
        """
        most = len(prompt) - 1
        shared = {
            slot.id: min(shared_prefix_length(slot.tokens, prompt), most) for slot in self.all
        }
        # Of two equally long prefixes, prefer the conversation's own, which needs no copy.
        best = max(self.all, key=lambda slot: (shared[slot.id], slot.conversation == conversation))
        keep = shared[best.id]
        target = self._choose_target(conversation, best, keep)
        if target is None:
            return None
        own = shared[target.id] if target.conversation == conversation else 0
        evict = bool(target.conversation) and target.conversation != conversation
        if min(stored, most) > keep:
            return SlotPlan(slot=target.id, evict=evict, restore=True, keep=min(stored, most))
        if best is target or own >= keep:
            return SlotPlan(slot=target.id, evict=evict, keep=shared[target.id])
        copy_from = best.id if keep else None
        return SlotPlan(slot=target.id, evict=evict, copy_from=copy_from, keep=keep)

    def assign(self, plan: SlotPlan, conversation: str, tokens: Sequence[int]) -> KvSlot:
        """Record that a plan was carried out: its slot is busy and holds `tokens`. Return the
        slot."""
        own = self.find(conversation)
        slot = self.all[plan.slot]
        # A second prompt of a conversation owns no slot while the first one's is busy.
        slot.conversation = conversation if own is None or own is slot else ""
        slot.tokens = list(tokens)
        slot.busy = True
        self._now += 1
        slot.last_used = self._now
        return slot

    def reset(self) -> None:
        """Record that the whole cache was cleared and that no slot is busy."""
        for slot in self.all:
            slot.tokens, slot.conversation, slot.busy = [], "", False

    def _choose_target(self, conversation: str, best: KvSlot, keep: int) -> KvSlot | None:
        own = self.find(conversation)
        if own is not None and not own.busy:
            return own
        idle = [slot for slot in self.all if not slot.busy]
        # Reusing a slot in place drops its tokens after the shared prefix. This is right for a
        # retried reply; another interview with the same beginning gets a copy instead.
        dropped = len(best.tokens) - keep
        in_place_limit = max(RECOMPUTE_LIMIT, keep // 8)
        if best in idle and not best.conversation and keep and dropped <= in_place_limit:
            return best
        # Prefer empty slots, then those without an owner, then the least recently used.
        return min(
            idle,
            key=lambda slot: (bool(slot.tokens), bool(slot.conversation), slot.last_used),
            default=None,
        )


def shared_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of leading tokens that two sequences have in common."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(n for n in range(shorter) if one[n] != other[n])
