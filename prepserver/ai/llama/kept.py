"""Which conversations' keys and values are kept, and which one a prompt goes on from.

Within an interview prompts are append-only, so nearly all of the next prompt has been computed
before. Several interviews, or several kinds of prompt, take turns; each keeps its own sequence
in the one cache, and what two of them share at the beginning is computed once.

The rules are here; `prepserver.ai.llama.engine` carries them out.
"""

from collections.abc import Sequence

from msgspec import Struct

__all__ = ["Kept", "Step"]

SHORT = 64
"""Tokens that are cheaper to compute again than to keep a sequence for: a reply or so."""


class Step(Struct, frozen=True, kw_only=True):
    """What to do to the cache before a prompt is computed."""

    sequence: int
    """Where the prompt goes."""
    keep: int
    """How many of its tokens are in the cache already."""
    copy_from: int | None = None
    """The sequence that has them, if it is another one."""
    evict: tuple[int, ...] = ()
    """Sequences to empty for want of room, after the copy."""


class Kept:
    """The tokens in each sequence of the cache, as far as they have been computed."""

    def __init__(self, sequences: int, capacity: int) -> None:
        """`capacity` in tokens, over all sequences."""
        self.tokens: list[list[int]] = [[] for _ in range(sequences)]
        self._capacity = capacity
        self._used = [0] * sequences
        self._now = 0

    def plan(self, prompt: Sequence[int], room: int) -> Step:
        """Choose for a prompt of tokens that needs `room` tokens in all, at most the capacity.

        The last token of the prompt is never taken from the cache: computing it gives the
        logits that the first new token is drawn from.
        """
        common = [_common(tokens, prompt) for tokens in self.tokens]
        best = max(range(len(common)), key=lambda n: (common[n], self._used[n]))
        keep = min(common[best], len(prompt) - 1)
        oldest = min(range(len(common)), key=lambda n: self._used[n])
        # Going on in place forgets what came after the common part. That is right for a reply
        # that was redone; another interview that begins alike gets a copy of the beginning.
        lost = len(self.tokens[best]) - keep
        sequence = best if keep and lost <= max(SHORT, keep // 8) else oldest
        copy_from = best if keep and sequence != best else None
        return Step(
            sequence=sequence,
            keep=keep,
            copy_from=copy_from,
            evict=self._surplus(sequence, room),
        )

    def begin(self, step: Step) -> None:
        """Note that the step was carried out."""
        source = step.sequence if step.copy_from is None else step.copy_from
        self.tokens[step.sequence] = self.tokens[source][: step.keep]
        for sequence in step.evict:
            self.tokens[sequence] = []
        self._now += 1
        self._used[step.sequence] = self._now

    def forget(self) -> None:
        """Note that the whole cache was emptied."""
        for tokens in self.tokens:
            tokens.clear()

    def _surplus(self, sequence: int, room: int) -> tuple[int, ...]:
        """The longest unused of the others, until the rest fits beside `room`.

        A shared beginning is counted in each sequence: rather too much is evicted than too
        little.
        """
        others = [n for n in range(len(self.tokens)) if n != sequence and self.tokens[n]]
        others.sort(key=lambda n: self._used[n])
        total = room + sum(len(self.tokens[n]) for n in others)
        evict: list[int] = []
        while total > self._capacity and others:
            evict.append(others.pop(0))
            total -= len(self.tokens[evict[-1]])
        return tuple(evict)


def _common(tokens: Sequence[int], prompt: Sequence[int]) -> int:
    for n, (ours, theirs) in enumerate(zip(tokens, prompt, strict=False)):
        if ours != theirs:
            return n
    return min(len(tokens), len(prompt))
