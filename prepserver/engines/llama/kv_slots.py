"""Which conversation is in which sequence of the cache, and where a prompt goes.

Within an interview prompts are append-only, so nearly all of the next prompt has been computed
before. A conversation keeps its sequence as long as there is one for it; what its prompt has in
common with any other sequence at the beginning is copied from there. When another conversation
needs the sequence, the longest unused one makes way.

The rules are here; `prepserver.engines.llama.engine` carries them out.
"""

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from msgspec import Struct

__all__ = ["SHORT", "KvSlot", "KvSlots", "SlotPlan", "common"]

SHORT = 64
"""Tokens that are cheaper to compute again than to keep a sequence for: a reply or so."""


@dataclass(kw_only=True)
class KvSlot:
    """One line of tokens in the cache."""

    number: int
    tokens: list[int] = field(default_factory=list)
    """Those that have been computed."""
    conversation: str = ""
    """Whose they are; empty when nobody comes back for them by name."""
    busy: bool = False
    used: int = 0
    """When it was last taken, in takings of any sequence."""


class SlotPlan(Struct, frozen=True, kw_only=True):
    """What to do to the cache before a prompt is computed, in this order."""

    sequence: int
    """Where the prompt goes."""
    evict: bool = False
    """Another conversation is in that sequence: save it first. It stays there until then: the
    prompt may have its beginning in common with it."""
    restore: bool = False
    """Bring the conversation back from disk."""
    copy_from: int | None = None
    """Copy another sequence."""
    keep: int = 0
    """Keep so many tokens of what is there then."""


class KvSlots:
    """All sequences of the cache."""

    def __init__(self, count: int) -> None:
        self.all = tuple(KvSlot(number=number) for number in range(count))
        self._now = 0

    def __getitem__(self, number: int) -> KvSlot:
        return self.all[number]

    @property
    def idle(self) -> int:
        """How many are not being worked in."""
        return sum(not each.busy for each in self.all)

    def of(self, conversation: str) -> KvSlot | None:
        """Where a conversation is, if it is in the cache."""
        found = (s for s in self.all if conversation and s.conversation == conversation)
        return next(found, None)

    def plan(self, conversation: str, prompt: Tokens[int], parked: int = 0) -> SlotPlan | None:
        """Choose for a prompt; None when every sequence is busy.

        `parked` is how many of its tokens the disk has. The last token of the prompt is never
        taken from the cache: computing it gives the logits that the first new token is drawn
        from.
        """
        most = len(prompt) - 1
        shared = {s.number: min(common(s.tokens, prompt), most) for s in self.all}
        # Of two that share as much, the conversation's own, which needs no copy.
        best = max(self.all, key=lambda s: (shared[s.number], s.conversation == conversation))
        keep = shared[best.number]
        target = self._target(conversation, best, keep)
        if target is None:
            return None
        own = shared[target.number] if target.conversation == conversation else 0
        evict = bool(target.conversation) and target.conversation != conversation
        if min(parked, most) > keep:
            return SlotPlan(
                sequence=target.number, evict=evict, restore=True, keep=min(parked, most)
            )
        if best is target or own >= keep:
            return SlotPlan(sequence=target.number, evict=evict, keep=shared[target.number])
        copy_from = best.number if keep else None
        return SlotPlan(sequence=target.number, evict=evict, copy_from=copy_from, keep=keep)

    def take(self, step: SlotPlan, conversation: str, tokens: Tokens[int]) -> KvSlot:
        """Note that the step was carried out, and that `tokens` are in its sequence now."""
        own = self.of(conversation)
        taken = self.all[step.sequence]
        # While it is busy with one prompt, another of its prompts is a guest elsewhere.
        taken.conversation = conversation if own is None or own is taken else ""
        taken.tokens = list(tokens)
        taken.busy = True
        self._now += 1
        taken.used = self._now
        return taken

    def forget_all(self) -> None:
        """Note that the whole cache was emptied and nobody works in it."""
        for each in self.all:
            each.tokens, each.conversation, each.busy = [], "", False

    def _target(self, conversation: str, best: KvSlot, keep: int) -> KvSlot | None:
        own = self.of(conversation)
        if own is not None and not own.busy:
            return own
        idle = [each for each in self.all if not each.busy]
        # Going on in place forgets what came after the common part. That is right for a reply
        # that was redone; another interview that begins alike gets a copy of the beginning.
        lost = len(best.tokens) - keep
        if best in idle and not best.conversation and keep and lost <= max(SHORT, keep // 8):
            return best
        # Empty ones first, then those that nobody comes back for, then the longest unused.
        return min(idle, key=lambda s: (bool(s.tokens), bool(s.conversation), s.used), default=None)


def common(tokens: Tokens[int], prompt: Tokens[int]) -> int:
    """How many tokens two sequences have in common at the beginning."""
    shorter = min(len(tokens), len(prompt))
    if tokens[:shorter] == prompt[:shorter]:
        return shorter
    return next(n for n in range(shorter) if tokens[n] != prompt[n])
