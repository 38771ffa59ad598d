"""What is computed next: the rules by which many prompts share one model.

Each step computes a token for each reply that is being written, and as much of the prompts that
are still being read as can be done without a stream being seen to stall. Who has
waited longest goes first, and a prompt that nobody waits for counts as one that came later.

Nothing here computes anything, reads a clock, or knows the native library.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from prepserver.engines.types import Priority

__all__ = [
    "PATIENCE",
    "PrefillChunk",
    "ScheduledJob",
    "TokenBudget",
    "in_turn",
    "plan_batches",
    "urgency",
]

PATIENCE = {Priority.ANSWER: 0.0, Priority.REVIEW: 20.0, Priority.PREFILL: 120.0}
"""Seconds that an answer goes ahead of such a prompt that came earlier. Finite, so that nothing
waits for ever."""

SMOOTH = 0.1
"""Seconds of a step while somebody's reply is written: ten tokens a second is faster than people
read."""
PATIENT = 0.25
"""Seconds of a step otherwise: how late a cancellation or a new request is seen at most."""
SMALLEST = 16
"""Tokens that are read in a step however slow the machine is, or reading would never end."""
FIRST_GUESS = 1 / 200
"""Seconds to read a token, before it was measured."""


class TokenBudget:
    """How many tokens can be read in a step, from how long earlier steps took."""

    def __init__(self, most: int) -> None:
        """`most` tokens fit into a batch, one of which is spare: see `compose`."""
        self._most = most
        self._per_token = FIRST_GUESS

    def measured(self, tokens: int, seconds: float) -> None:
        """A step read so many tokens and took so long."""
        if tokens >= SMALLEST:
            self._per_token += 0.3 * (seconds / tokens - self._per_token)

    def budget(self, *, streaming: bool) -> int:
        wanted = (SMOOTH if streaming else PATIENT) / max(self._per_token, 1e-9)
        return int(min(self._most - 1, max(SMALLEST, wanted)))


class ScheduledJob(Protocol):
    """A prompt or reply in a sequence, as far as the schedule is concerned."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def done(self) -> int:
        """Tokens of prompt and reply that are computed."""

    @property
    def upcoming(self) -> int | None:
        """The token of the reply to compute next; None while the prompt is read."""

    @property
    def priority(self) -> Priority: ...
    @property
    def arrived(self) -> float:
        """Seconds on some clock."""


AnyReader = TypeVar("AnyReader", bound=ScheduledJob)


class PrefillChunk(Struct, frozen=True):
    """Tokens of one job, to be computed in the next batch."""

    job: int
    """Index among the jobs."""
    tokens: Sequence[int]
    last: bool
    """Whether a token is drawn after them: the reply's next."""


def urgency(job: ScheduledJob) -> float:
    """Least goes first."""
    return job.arrived + PATIENCE[job.priority]


def plan_batches(jobs: Sequence[ScheduledJob], pace: TokenBudget) -> list[list[PrefillChunk]]:
    """The next batches: one of all replies that are written, then one for each part of a prompt.

    A token that is computed alone and one that is computed in a row with others of its sequence
    go through different code, whose sums differ in the last digits. So that a text does not
    depend on what else is computed, the same tokens go alone whatever happens: those of replies,
    and the last one of each prompt; and no others, which is why a prompt is not read in one batch
    with replies, and why no part of it is left with a single token.
    """
    writing: list[PrefillChunk] = []
    readers: list[int] = []
    for index, job in enumerate(jobs):
        if job.upcoming is not None:
            writing.append(PrefillChunk(index, (job.upcoming,), True))
        elif len(job.prompt) - job.done == 1:
            writing.append(PrefillChunk(index, job.prompt[-1:], True))
        else:
            readers.append(index)
    batches = [writing] if writing else []
    left = pace.budget(streaming=bool(writing))
    for index in sorted(readers, key=lambda n: urgency(jobs[n])):
        job = jobs[index]
        rest = len(job.prompt) - 1 - job.done
        size = min(left, rest)
        if size == rest - 1:
            size = rest
        if size < min(2, rest):
            break
        batches.append([PrefillChunk(index, job.prompt[job.done : job.done + size], False)])
        left -= size
    return batches


def in_turn(jobs: Iterable[AnyReader]) -> list[AnyReader]:
    """Who goes first first."""
    return sorted(jobs, key=urgency)
