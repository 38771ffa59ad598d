"""Recorder of model calls. Each call has a record, which is closed however the call ends."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import PrepServerError
from prepserver.telemetry.calls import CANCELLED, Call, CallKind, CallRecord, CallStats

__all__ = ["OpenCall", "Recorder"]

log = structlog.get_logger(__name__)


class OpenCall(Struct, kw_only=True):
    """Call in progress, with its record and its statistics."""

    record: CallRecord
    stats: CallStats
    """Statistics of the call's execution or, for a shared reply, of the call that computes it."""


class Recorder:
    """Recorder that passes the record of every finished call to its observers."""

    def __init__(
        self, clock: Clock, observers: Sequence[Callable[[CallRecord], None]], *, keep_text: bool
    ) -> None:
        """Set the observers. If `keep_text` is true, records include the prompts and replies."""
        self._clock = clock
        self._observers = tuple(observers)
        self._keep_text = keep_text

    @contextmanager
    def record_call(
        self, call: Call, kind: CallKind, prompt: str
    ) -> Generator[OpenCall, None, None]:
        """Record the call that runs in the `with` block. `prompt` is the text of the prompt."""
        started_at = self._clock.monotonic()
        record = CallRecord(
            at=self._clock.now(),
            kind=kind,
            purpose=call.purpose,
            user=call.user,
            interview=call.interview,
            request=call.request,
            metadata=call.metadata,
            prompt=prompt if self._keep_text else None,
            reply="" if self._keep_text else None,
        )
        open_call = OpenCall(record=record, stats=CallStats())
        try:
            yield open_call
        except PrepServerError as error:
            record.outcome = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.outcome = CANCELLED
            raise
        except Exception:
            record.outcome = PrepServerError.default_code
            raise
        finally:
            self._close(open_call, started_at, self._clock.monotonic())

    def _close(self, open_call: OpenCall, started_at: float, ended_at: float) -> None:
        record, stats = open_call.record, open_call.stats
        record.duration = ended_at - started_at
        record.model, record.fallback_index = stats.model, stats.fallback_index
        if not record.shared:
            record.retries, record.queued = stats.retries, stats.queued
            if stats.started_at is not None and not record.compute:
                record.compute = ended_at - stats.started_at
        # While a candidate speaks, there is a prefill every few words.
        write = log.debug if record.kind == "prefill" else log.info
        write(
            "call.done",
            kind=record.kind,
            purpose=record.purpose,
            interview=record.interview,
            outcome=record.outcome,
            fallback_index=record.fallback_index,
            retries=record.retries,
            shared=record.shared,
            seconds=round(record.duration, 3),
            queued=round(record.queued, 3),
            first_token=None if record.first_token is None else round(record.first_token, 3),
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
        )
        for observe in self._observers:
            observe(record)
