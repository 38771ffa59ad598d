"""Scheduling of the tokens that are computed next when several prompts share one model.

Each step computes one token of every reply, and as many tokens of the pending prompts as possible
without visibly stalling a stream. The prompt that has waited longest goes first, except that
reviews and prefills count as having arrived later (priority aging). On a slow model even the
smallest chunk of a prompt takes longer than a step should. A job that is less urgent than another
one then waits until the other one has ended.

The module is pure: it runs no inference, reads no clock, and does not import the native library.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from prepserver.engines.types import Priority

__all__ = [
    "MIN_IDLE_PREFILL_TOKENS",
    "MIN_PREFILL_TOKENS",
    "PRIORITY_AGING",
    "ScheduledJob",
    "TokenBudget",
    "TokenChunk",
    "plan_batches",
    "scheduling_order",
    "virtual_arrival",
]

PRIORITY_AGING = {Priority.ANSWER: 0.0, Priority.REVIEW: 20.0, Priority.PREFILL: 120.0}
"""Seconds that a prompt of each priority must have waited to be scheduled before an answer that has
just arrived. All values are finite, so that no prompt starves."""

STREAMING_STEP = 0.1
"""Target duration of a step in seconds while replies are streaming: ten tokens a second is faster
than people read."""
IDLE_STEP = 0.25
"""Target duration of a step in seconds while no reply is streaming, which is the delay of a
cancellation or a new request."""
MIN_PREFILL_TOKENS = 16
"""Minimum budget of prompt tokens per step, so that every prompt finishes even on a slow
machine."""
MIN_IDLE_PREFILL_TOKENS = 32
"""The same while no reply is streaming. A model of 1.5 billion parameters computes chunks of 16
tokens a quarter slower per token than chunks of 32, and longer chunks no faster."""
INITIAL_SECONDS_PER_TOKEN = 1 / 200
"""Estimated prefill time per token, in seconds, before the first measurement."""
SMOOTHING = 0.3
"""Weight of the latest measurement in the moving average of the prefill time per token."""


class TokenBudget:
    """Budget of prompt tokens for one step, derived from the measured prefill speed."""

    def __init__(self, batch_tokens: int) -> None:
        """Set the batch capacity in tokens.

        One token of the capacity is reserved, because `plan_batches` may extend a chunk by one
        token.
        """
        self._batch_tokens = batch_tokens
        self._seconds_per_token = INITIAL_SECONDS_PER_TOKEN
        self._measured = False

    def record_prefill(self, tokens: int, seconds: float) -> None:
        """Update the estimated speed from a batch of prompt tokens that took `seconds` to compute.

        Batches of fewer than MIN_PREFILL_TOKENS tokens are ignored.
        """
        if tokens >= MIN_PREFILL_TOKENS:
            weight = SMOOTHING if self._measured else 1.0
            self._seconds_per_token += weight * (seconds / tokens - self._seconds_per_token)
            self._measured = True

    def prefill_tokens(self, *, streaming: bool) -> int:
        """Return the target number of prompt tokens for the next step.

        `streaming` is True if the step also computes tokens of replies.
        """
        minimum = MIN_PREFILL_TOKENS if streaming else MIN_IDLE_PREFILL_TOKENS
        return max(minimum, self.affordable_tokens(streaming=streaming))

    def affordable_tokens(self, *, streaming: bool) -> int:
        """Return the number of prompt tokens that fit into the duration of the next step."""
        duration = STREAMING_STEP if streaming else IDLE_STEP
        return int(min(self._batch_tokens - 1, duration / max(self._seconds_per_token, 1e-9)))


class ScheduledJob(Protocol):
    """Properties of a job on which scheduling depends."""

    @property
    def prompt_tokens(self) -> Sequence[int]: ...
    @property
    def computed(self) -> int:
        """Number of the job's prompt and reply tokens that are in the KV cache."""

    @property
    def next_token(self) -> int | None:
        """Reply token to compute next; None while the prompt is being computed."""

    @property
    def priority(self) -> Priority: ...
    @property
    def arrived_at(self) -> float:
        """Arrival time in seconds on a monotonic clock."""


JobT = TypeVar("JobT", bound=ScheduledJob)


class TokenChunk(Struct, frozen=True):
    """Consecutive tokens of one job, computed in one batch."""

    job: int
    """Index of the job among the jobs passed to `plan_batches`."""
    tokens: Sequence[int]
    wants_logits: bool
    """True if the next reply token is sampled after these tokens."""


def virtual_arrival(job: ScheduledJob) -> float:
    """Return the job's arrival time plus the value of `PRIORITY_AGING` for its priority, in
    seconds.

    The job with the earliest virtual arrival is served first.
    """
    return job.arrived_at + PRIORITY_AGING[job.priority]


def scheduling_order(jobs: Iterable[JobT]) -> list[JobT]:
    """Return the jobs sorted by `virtual_arrival`, the most urgent first."""
    return sorted(jobs, key=virtual_arrival)


def plan_batches(jobs: Sequence[ScheduledJob], budget: TokenBudget) -> list[list[TokenChunk]]:
    """Plan the batches of a step: one with a token of every reply, then one per prompt chunk.

    llama.cpp uses different code for a single token of a sequence than for several tokens at once,
    and the sums differ in their last digits. For a reply to be independent of the other jobs, the
    same tokens must always be computed singly: the tokens of replies, the last token of each
    prompt, and no others. Therefore prompt chunks never share a batch with replies. A chunk that
    would leave a single token behind is extended by that token.

    A job that yields to another one gets a chunk only if the step has time for at least
    MIN_PREFILL_TOKENS more tokens.
    """
    replies: list[TokenChunk] = []
    prefills: list[int] = []
    for index, job in enumerate(jobs):
        if job.next_token is not None:
            replies.append(TokenChunk(index, (job.next_token,), True))
        elif len(job.prompt_tokens) - job.computed == 1:
            replies.append(TokenChunk(index, job.prompt_tokens[-1:], True))
        else:
            prefills.append(index)
    batches = [replies] if replies else []
    remaining = budget.prefill_tokens(streaming=bool(replies))
    affordable = budget.affordable_tokens(streaming=bool(replies))
    for index in sorted(prefills, key=lambda n: virtual_arrival(jobs[n])):
        job = jobs[index]
        if _yields(job, jobs) and affordable < MIN_PREFILL_TOKENS:
            break
        pending = len(job.prompt_tokens) - 1 - job.computed
        size = min(remaining, pending)
        if size == pending - 1:
            size = pending
        if size < min(2, pending):
            break
        chunk = job.prompt_tokens[job.computed : job.computed + size]
        batches.append([TokenChunk(index, chunk, False)])
        remaining -= size
        affordable -= size
    return batches


def _yields(job: ScheduledJob, jobs: Sequence[ScheduledJob]) -> bool:
    """Return True if one of the jobs has a higher priority and an earlier virtual arrival."""
    return any(
        other.priority < job.priority and virtual_arrival(other) < virtual_arrival(job)
        for other in jobs
    )
