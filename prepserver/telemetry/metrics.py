"""Figures for Prometheus, in a registry of their own.

No figure names a user or an interview.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from prepserver.engines.types import EngineStats, SpeechStats
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.stats import Load

__all__ = ["Metrics"]

SHORT = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: buckets for what somebody waits for."""
LONG = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
"""Seconds: buckets for whole calls."""

_ENGINE_GAUGES = {
    "slots": "Prompts that the engine can work on at the same time.",
    "active": "Prompts that the engine works on.",
    "waiting": "Prompts that wait for a slot of the engine.",
    "tokens_per_second": "Written by all replies together, over the last steps.",
    "offloaded": "Conversations on disk.",
    "offloaded_bytes": "Their size.",
}
_ENGINE_COUNTERS = {
    "batches": "Batches that were computed.",
    "batch_tokens": "Tokens in all batches; divided by the batches, the mean size of a batch.",
    "seconds": "Spent on batches.",
    "prompt_tokens": "Of all prompts.",
    "cached_tokens": "Of all prompts, those that were not computed again.",
    "completion_tokens": "Of all replies.",
    "evictions": "Conversations that were moved out of the cache.",
    "restores": "Conversations that came back from disk.",
}
_EARS_GAUGES = {
    "recordings": "That are open.",
    "waiting": "Finished segments that are still to be written down.",
    "caption_lag": "Seconds of sound not yet in a caption, the most of those who speak now.",
}


class Metrics:
    """Counts the calls that it is told of, and shows what a moment looks like."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._calls = Counter(
            "prep_calls",
            "Calls of models, by how they ended.",
            ("kind", "purpose", "model", "outcome"),
            registry=registry,
        )
        self._tokens = Counter(
            "prep_tokens",
            "Tokens of calls; `cached` are those of the prompts that were not computed again.",
            ("model", "what"),
            registry=registry,
        )
        self._compute = Counter(
            "prep_compute_seconds", "Models worked for calls.", ("model",), registry=registry
        )
        self._retries = Counter(
            "prep_retries", "Further attempts of calls.", ("model",), registry=registry
        )
        self._fallbacks = Counter(
            "prep_fallbacks", "Calls that a model stepped in for.", ("model",), registry=registry
        )
        self._shared = Counter(
            "prep_shared_replies",
            "Replies from the cache, or shared with an equal call in flight.",
            ("where",),
            registry=registry,
        )
        self._first = Histogram(
            "prep_first_token_seconds",
            "From a call to the first words of its reply.",
            ("purpose",),
            buckets=SHORT,
            registry=registry,
        )
        self._queued = Histogram(
            "prep_queue_seconds",
            "That calls waited for a place at a model.",
            ("kind",),
            buckets=SHORT,
            registry=registry,
        )
        self._duration = Histogram(
            "prep_call_seconds",
            "Of whole calls that ended well.",
            ("kind", "purpose"),
            buckets=LONG,
            registry=registry,
        )
        self._lag = Histogram(
            "prep_transcript_lag_seconds",
            "From the end of the sound to its transcript.",
            buckets=SHORT,
            registry=registry,
        )
        self._caption_lag = Histogram(
            "prep_caption_lag_seconds",
            "Of sound not yet in a caption when it was shown; the most of each recording.",
            buckets=SHORT,
            registry=registry,
        )
        self._moment: list[Metric] = []
        registry.register(_Moment(self._moment))

    def observe(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        self._calls.labels(record.kind, record.purpose, record.model, record.outcome).inc()
        for what, tokens in (
            ("prompt", record.prompt_tokens),
            ("cached", record.cached_tokens),
            ("completion", record.completion_tokens),
        ):
            if tokens:
                self._tokens.labels(record.model, what).inc(tokens)
        if record.compute > 0:
            self._compute.labels(record.model).inc(record.compute)
        if record.retries:
            self._retries.labels(record.model).inc(record.retries)
        if record.step:
            self._fallbacks.labels(record.model).inc()
        if record.shared:
            self._shared.labels(record.shared).inc()
        elif record.kind != "prefill" and record.model:
            self._queued.labels(record.kind).observe(record.queued)
        if record.first is not None:
            self._first.labels(record.purpose).observe(record.first)
        if record.outcome == "ok":
            self._duration.labels(record.kind, record.purpose).observe(record.duration)
        if record.lag is not None:
            self._lag.observe(record.lag)
        if record.caption_lag is not None:
            self._caption_lag.observe(record.caption_lag)

    def page(
        self,
        loads: Iterable[Load],
        engines: Iterable[tuple[str, EngineStats | SpeechStats]],
        gauges: Iterable[tuple[str, str, float]],
    ) -> bytes:
        """Everything, in the text that Prometheus reads.

        `engines` by the names of their models; `gauges` are names, explanations and values of
        what else there is to see.
        """
        self._moment[:] = [
            *_of_loads(loads),
            *_of_engines(engines),
            *(GaugeMetricFamily(name, text, value) for name, text, value in gauges),
        ]
        return generate_latest(self._registry)


class _Moment:
    """What is set anew for every page."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return list(self._families)


def _of_loads(loads: Iterable[Load]) -> Iterable[Metric]:
    names = ("job", "model")
    running = GaugeMetricFamily("prep_model_running", "Calls that it works on.", labels=names)
    waiting = GaugeMetricFamily("prep_model_queue", "Calls that wait for it.", labels=names)
    ready = GaugeMetricFamily("prep_model_ready", "1 when it is loaded.", labels=names)
    for load in loads:
        labels = (load.job, load.model)
        running.add_metric(labels, load.running)
        waiting.add_metric(labels, load.waiting)
        ready.add_metric(labels, load.state == "ready")
    return running, waiting, ready


def _of_engines(engines: Iterable[tuple[str, EngineStats | SpeechStats]]) -> Iterable[Metric]:
    figures = list(engines)
    for stats_type, kind, prefix, texts in (
        (EngineStats, GaugeMetricFamily, "prep_engine", _ENGINE_GAUGES),
        (EngineStats, CounterMetricFamily, "prep_engine", _ENGINE_COUNTERS),
        (SpeechStats, GaugeMetricFamily, "prep_ears", _EARS_GAUGES),
    ):
        for field, text in texts.items():
            family = kind(f"{prefix}_{field}", text, labels=("model",))
            for model, stats in figures:
                if isinstance(stats, stats_type):
                    family.add_metric((model,), getattr(stats, field))
            yield family
