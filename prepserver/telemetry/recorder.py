"""Closes a record of every call, however it ends."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import PrepServerError
from prepserver.telemetry.calls import CANCELLED, Call, CallRecord, CallStats, Kind

__all__ = ["OpenCall", "Recorder"]

log = structlog.get_logger(__name__)


class OpenCall(Struct, kw_only=True):
    """A call that goes on."""

    record: CallRecord
    effort: CallStats
    """What its run has come to; empty for a reply that is shared."""


class Recorder:
    """Hands each record, when its call has ended, to whoever keeps or counts them."""

    def __init__(
        self, clock: Clock, takers: Sequence[Callable[[CallRecord], None]], *, keep_text: bool
    ) -> None:
        self._clock = clock
        self._takers = tuple(takers)
        self._keep_text = keep_text

    @contextmanager
    def recording(self, call: Call, kind: Kind, prompt: str) -> Generator[OpenCall, None, None]:
        """The entry of a call, while it goes on; `prompt` is its text."""
        started = self._clock.monotonic()
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
        entry = OpenCall(record=record, effort=CallStats())
        try:
            yield entry
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
            self._close(entry, started, self._clock.monotonic())

    def _close(self, entry: OpenCall, started: float, ended: float) -> None:
        record, effort = entry.record, entry.effort
        record.duration = ended - started
        record.model, record.step = effort.model, effort.step
        if not record.shared:
            record.retries, record.queued = effort.retries, effort.queued
            if effort.begun is not None and not record.compute:
                record.compute = ended - effort.begun
        tell = log.debug if record.kind == "prefill" else log.info  # one for every few words
        tell(
            "call.done",
            kind=record.kind,
            purpose=record.purpose,
            interview=record.interview,
            outcome=record.outcome,
            step=record.step,
            retries=record.retries,
            shared=record.shared,
            seconds=round(record.duration, 3),
            queued=round(record.queued, 3),
            first_token=None if record.first is None else round(record.first, 3),
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
        )
        for take in self._takers:
            take(record)
