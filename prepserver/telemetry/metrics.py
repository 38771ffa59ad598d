"""Prometheus metrics of the server, in a registry of their own.

No metric contains the name of a user or an interview.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from prepserver.engines.types import EngineStats, SpeechStats
from prepserver.telemetry.calls import OK, CallRecord
from prepserver.telemetry.stats import ModelLoad

__all__ = ["Metrics"]

LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds, of the histogram buckets for delays that a candidate notices."""
DURATION_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
"""Upper bounds, in seconds, of the histogram buckets for durations of whole calls."""

S = TypeVar("S", EngineStats, SpeechStats)


class _EngineMetric(Struct, Generic[S], frozen=True):
    """Metric that is read from an engine's statistics."""

    family: type[GaugeMetricFamily | CounterMetricFamily]
    name: str
    help: str
    read: Callable[[S], float]


_LANGUAGE_METRICS: tuple[_EngineMetric[EngineStats], ...] = (
    _EngineMetric(
        GaugeMetricFamily,
        "prep_engine_slots",
        "KV slots: prompts that the engine can process at once.",
        lambda stats: stats.slots,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_engine_active_prompts",
        "Prompts that the engine is processing.",
        lambda stats: stats.active,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_engine_waiting_prompts",
        "Prompts that are waiting for a KV slot.",
        lambda stats: stats.waiting,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_engine_tokens_per_second",
        "Recent generation throughput over all replies, in tokens per second.",
        lambda stats: stats.tokens_per_second,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_engine_offloaded_conversations",
        "Conversations whose KV state is on disk.",
        lambda stats: stats.offloaded,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_engine_offloaded_bytes",
        "Bytes of disk space used by the KV state of offloaded conversations.",
        lambda stats: stats.offloaded_bytes,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_batches",
        "Batches computed.",
        lambda stats: stats.batches,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_batch_tokens",
        "Tokens in all batches; divided by the number of batches, the mean batch size.",
        lambda stats: stats.batch_tokens,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_batch_seconds",
        "Seconds spent computing batches.",
        lambda stats: stats.batch_seconds,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_prompt_tokens",
        "Prompt tokens, computed or served from the KV cache.",
        lambda stats: stats.prompt_tokens,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_cached_prompt_tokens",
        "Prompt tokens served from the KV cache.",
        lambda stats: stats.cached_tokens,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_completion_tokens",
        "Tokens generated.",
        lambda stats: stats.completion_tokens,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_evictions",
        "Conversations evicted from their KV slot to make room.",
        lambda stats: stats.evictions,
    ),
    _EngineMetric(
        CounterMetricFamily,
        "prep_engine_restores",
        "Conversations restored from disk.",
        lambda stats: stats.restores,
    ),
)
_SPEECH_METRICS: tuple[_EngineMetric[SpeechStats], ...] = (
    _EngineMetric(
        GaugeMetricFamily,
        "prep_transcriber_recordings",
        "Recordings being transcribed live.",
        lambda stats: stats.recordings,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_transcriber_waiting_spans",
        "Finished spans of speech that are waiting to be transcribed.",
        lambda stats: stats.waiting,
    ),
    _EngineMetric(
        GaugeMetricFamily,
        "prep_transcriber_caption_lag_seconds",
        "Seconds of received audio that no caption covers yet; the maximum over the current"
        " speakers.",
        lambda stats: stats.caption_lag,
    ),
)


class Metrics:
    """Counters and histograms of finished calls, rendered with the server's current state."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._calls = Counter(
            "prep_calls",
            "Model calls, by outcome.",
            ("kind", "purpose", "model", "outcome"),
            registry=registry,
        )
        self._tokens = Counter(
            "prep_tokens",
            "Tokens used by model calls, by type: `prompt`, `completion` and `cached` (prompt"
            " tokens served from the KV cache).",
            ("model", "type"),
            registry=registry,
        )
        self._compute = Counter(
            "prep_compute_seconds",
            "Seconds that models spent computing calls.",
            ("model",),
            registry=registry,
        )
        self._retries = Counter(
            "prep_retries", "Retries of failed calls.", ("model",), registry=registry
        )
        self._fallbacks = Counter(
            "prep_fallbacks", "Calls handled by a fallback model.", ("model",), registry=registry
        )
        self._shared_replies = Counter(
            "prep_shared_replies",
            "Replies served from the reply cache (`cache`) or by an identical call in flight"
            " (`in_flight`).",
            ("source",),
            registry=registry,
        )
        self._first_token = Histogram(
            "prep_time_to_first_token_seconds",
            "Seconds from the start of a call to the first text of its reply.",
            ("purpose",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._queue_time = Histogram(
            "prep_queue_time_seconds",
            "Seconds that calls spent in the queue.",
            ("kind",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            "prep_call_duration_seconds",
            "Duration of successful calls in seconds.",
            ("kind", "purpose"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._transcript_lag = Histogram(
            "prep_transcript_lag_seconds",
            "Seconds from the end of a recording to its transcript.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._caption_lag = Histogram(
            "prep_caption_lag_seconds",
            "Maximum caption lag of each recording: seconds of audio received, but not yet covered,"
            " when a caption was sent.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._current = _CurrentState()
        registry.register(self._current)

    def observe_call(self, record: CallRecord) -> None:
        """Add a finished call to the counters and histograms."""
        self._calls.labels(record.kind, record.purpose, record.model, record.outcome).inc()
        for token_type, tokens in (
            ("prompt", record.prompt_tokens),
            ("cached", record.cached_tokens),
            ("completion", record.completion_tokens),
        ):
            if tokens:
                self._tokens.labels(record.model, token_type).inc(tokens)
        if record.compute > 0:
            self._compute.labels(record.model).inc(record.compute)
        if record.retries:
            self._retries.labels(record.model).inc(record.retries)
        if record.fallback_index:
            self._fallbacks.labels(record.model).inc()
        if record.shared:
            self._shared_replies.labels(record.shared).inc()
        elif record.kind != "prefill" and record.model:
            self._queue_time.labels(record.kind).observe(record.queued)
        if record.first_token is not None:
            self._first_token.labels(record.purpose).observe(record.first_token)
        if record.outcome == OK:
            self._duration.labels(record.kind, record.purpose).observe(record.duration)
        if record.transcript_lag is not None:
            self._transcript_lag.observe(record.transcript_lag)
        if record.caption_lag is not None:
            self._caption_lag.observe(record.caption_lag)

    def render(
        self,
        loads: Iterable[ModelLoad],
        engines: Iterable[tuple[str, EngineStats | SpeechStats]],
        gauges: Iterable[tuple[str, str, float]],
    ) -> bytes:
        """Return all metrics in the Prometheus text format.

        `engines` holds pairs of a model's name and its engine's statistics; `gauges` holds the
        name, help text and value of each further gauge.
        """
        self._current.families = [
            *_load_metrics(loads),
            *_engine_metrics(engines),
            *(GaugeMetricFamily(name, text, value) for name, text, value in gauges),
        ]
        return generate_latest(self._registry)


class _CurrentState:
    """Collector of metrics that describe the current state. `Metrics.render` sets `families`."""

    def __init__(self) -> None:
        self.families: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        return self.families


def _load_metrics(loads: Iterable[ModelLoad]) -> Iterable[Metric]:
    names = ("job", "model")
    running = GaugeMetricFamily("prep_model_calls_running", "Calls in progress.", labels=names)
    queued = GaugeMetricFamily("prep_model_calls_queued", "Calls in the queue.", labels=names)
    ready = GaugeMetricFamily(
        "prep_model_ready", "1 if the model is loaded, otherwise 0.", labels=names
    )
    for load in loads:
        labels = (load.job, load.model)
        running.add_metric(labels, load.running)
        queued.add_metric(labels, load.waiting)
        ready.add_metric(labels, load.state == "ready")
    return running, queued, ready


def _engine_metrics(engines: Iterable[tuple[str, EngineStats | SpeechStats]]) -> Iterable[Metric]:
    language: list[tuple[str, EngineStats]] = []
    speech: list[tuple[str, SpeechStats]] = []
    for model, stats in engines:
        if isinstance(stats, EngineStats):
            language.append((model, stats))
        else:
            speech.append((model, stats))
    yield from (_family(metric, language) for metric in _LANGUAGE_METRICS)
    yield from (_family(metric, speech) for metric in _SPEECH_METRICS)


def _family(metric: _EngineMetric[S], engines: Iterable[tuple[str, S]]) -> Metric:
    family: Any = metric.family(metric.name, metric.help, labels=("model",))
    for model, stats in engines:
        family.add_metric((model,), metric.read(stats))
    return family  # type: ignore[no-any-return]
