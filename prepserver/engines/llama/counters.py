"""Counters of the engine's work, for statistics and metrics."""

from collections.abc import Sequence

from prepserver.engines.llama.job import Job
from prepserver.engines.llama.kv_slots import KvSlots
from prepserver.engines.llama.kv_store import KvStore
from prepserver.engines.llama.schedule import TokenChunk
from prepserver.engines.types import EngineStats

__all__ = ["EngineCounters"]

RATE_SMOOTHING = 0.05
"""Weight of the latest batch in the moving average of the generation speed. The average covers
about the last 20 batches that generated tokens."""


class EngineCounters:
    """Totals of the engine's work since its process started."""

    def __init__(self) -> None:
        self.evictions = 0
        self.restores = 0
        self.completion_tokens = 0
        self._batches = 0
        self._batch_tokens = 0
        self._batch_seconds = 0.0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._recent_tokens = 0.0
        self._recent_seconds = 0.0

    def record_start(self, job: Job) -> None:
        """Count the prompt tokens and the cached tokens of a job that was given a slot."""
        self._prompt_tokens += len(job.prompt_tokens)
        self._cached_tokens += job.cached

    def record_batch(self, chunks: Sequence[TokenChunk], seconds: float) -> None:
        """Count a computed batch and its tokens, and add the seconds that computing the batch
        took."""
        self._batches += 1
        self._batch_tokens += sum(len(chunk.tokens) for chunk in chunks)
        self._batch_seconds += seconds
        generated = sum(chunk.wants_logits for chunk in chunks)
        if generated:
            self._recent_tokens += RATE_SMOOTHING * (generated - self._recent_tokens)
            self._recent_seconds += RATE_SMOOTHING * (seconds - self._recent_seconds)

    def stats(self, slots: KvSlots, waiting: Sequence[Job], store: KvStore) -> EngineStats:
        """Return the totals together with the current load."""
        return EngineStats(
            slots=len(slots.all),
            active=len(slots.all) - slots.idle_count,
            waiting=len(waiting),
            batches=self._batches,
            batch_tokens=self._batch_tokens,
            batch_seconds=self._batch_seconds,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self.completion_tokens,
            tokens_per_second=(
                self._recent_tokens / self._recent_seconds if self._recent_seconds else 0.0
            ),
            evictions=self.evictions,
            restores=self.restores,
            offloaded=store.count,
            offloaded_bytes=store.size,
        )
