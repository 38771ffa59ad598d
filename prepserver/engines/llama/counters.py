"""What the engine has done, for whoever watches it."""

from collections.abc import Sequence

from prepserver.engines.llama.job import Job
from prepserver.engines.llama.kv_slots import KvSlots
from prepserver.engines.llama.kv_store import KvStore
from prepserver.engines.llama.schedule import PrefillChunk
from prepserver.engines.types import EngineStats

__all__ = ["Counters"]

LATELY = 0.05
"""Weight of the last step in the mean of the writing speed: some twenty steps count."""


class Counters:
    """Totals since the process started."""

    def __init__(self) -> None:
        self.evictions = 0
        self.restores = 0
        self.completion_tokens = 0
        self._steps = 0
        self._rows = 0
        self._seconds = 0.0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._lately_written = 0.0
        self._lately_seconds = 0.0

    def started(self, job: Job) -> None:
        self._prompt_tokens += len(job.prompt)
        self._cached_tokens += job.cached

    def computed(self, pieces: Sequence[PrefillChunk], seconds: float) -> None:
        self._steps += 1
        self._rows += sum(len(piece.tokens) for piece in pieces)
        self._seconds += seconds
        written = sum(piece.last for piece in pieces)
        if written:
            self._lately_written += LATELY * (written - self._lately_written)
            self._lately_seconds += LATELY * (seconds - self._lately_seconds)

    def report(self, sequences: KvSlots, waiting: Sequence[Job], parked: KvStore) -> EngineStats:
        lately = self._lately_seconds
        return EngineStats(
            slots=len(sequences.all),
            active=len(sequences.all) - sequences.idle,
            waiting=len(waiting),
            batches=self._steps,
            batch_tokens=self._rows,
            seconds=self._seconds,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self.completion_tokens,
            tokens_per_second=self._lately_written / lately if lately else 0.0,
            evictions=self.evictions,
            restores=self.restores,
            offloaded=parked.count,
            offloaded_bytes=parked.size,
        )
