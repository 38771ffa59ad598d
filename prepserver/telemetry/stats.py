"""Statistics of model calls, aggregated from the call log."""

import re
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.telemetry.call_log import open_read_only
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ModelLoad", "StatsLine", "call_statistics", "parse_duration"]

UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
MAX_DURATION = 3_660 * UNIT_SECONDS["d"]

# Percentiles by nearest rank: the smallest value that is not below the given share of all values.
_STATISTICS = """
WITH chosen AS (SELECT * FROM calls WHERE at >= :since),
first_tokens AS (
    SELECT model, kind, purpose, first_token,
        row_number() OVER (PARTITION BY model, kind, purpose ORDER BY first_token) AS rank,
        count(*) OVER (PARTITION BY model, kind, purpose) AS total
    FROM chosen WHERE first_token IS NOT NULL
),
durations AS (
    SELECT model, kind, purpose, duration,
        row_number() OVER (PARTITION BY model, kind, purpose ORDER BY duration) AS rank,
        count(*) OVER (PARTITION BY model, kind, purpose) AS total
    FROM chosen WHERE outcome = 'ok'
),
first_token_percentiles AS (
    SELECT model, kind, purpose, min(first_token) FILTER (WHERE rank >= 0.5 * total) AS p50,
        min(first_token) FILTER (WHERE rank >= 0.95 * total) AS p95
    FROM first_tokens GROUP BY model, kind, purpose
),
duration_percentiles AS (
    SELECT model, kind, purpose, min(duration) FILTER (WHERE rank >= 0.5 * total) AS p50,
        min(duration) FILTER (WHERE rank >= 0.95 * total) AS p95
    FROM durations GROUP BY model, kind, purpose
)
SELECT model, kind, purpose, count(*),
    count(*) FILTER (WHERE outcome NOT IN ('ok', 'cancelled', 'dropped')),
    count(*) FILTER (WHERE outcome = 'cancelled'), count(*) FILTER (WHERE outcome = 'dropped'),
    sum(retries), count(*) FILTER (WHERE fallback_index > 0), count(*) FILTER (WHERE shared <> ''),
    sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(audio), sum(compute),
    min(f.p50), min(f.p95), min(d.p50), min(d.p95)
FROM chosen LEFT JOIN first_token_percentiles f USING (model, kind, purpose)
LEFT JOIN duration_percentiles d USING (model, kind, purpose)
GROUP BY model, kind, purpose ORDER BY model, kind, purpose
"""


class ModelLoad(Struct, frozen=True, kw_only=True):
    """Current load of one model."""

    job: str
    """Job of the model: `interviewer` or `transcriber`."""
    model: str
    state: str
    """State of the model: `loading`, `ready` or `failed`."""
    parallel: int
    """Number of calls that the model can run at once."""
    running: int
    """Number of calls that the model is running."""
    waiting: int
    """Number of calls in the model's queue."""
    wait: float | None
    """Estimated wait of a new call, in seconds; null until a call has been measured."""


class StatsLine(Struct, frozen=True, kw_only=True):
    """Statistics of the calls with the same model, kind and purpose. Times are in seconds; a time
    is null if no call in the group has one."""

    model: str
    """Name of the model; empty for calls that reached no model, such as calls over a limit."""
    kind: str
    purpose: str
    calls: int
    errors: int
    cancelled: int
    dropped: int
    """Number of prefills that found no idle slot or no loaded model."""
    retries: int
    fallbacks: int
    """Number of calls that reached a fallback model, including those that failed there."""
    shared: int
    """Number of calls answered from the reply cache or by an identical call in flight."""
    prompt_tokens: int
    cached_tokens: int
    """Number of prompt tokens that were served from the KV cache."""
    completion_tokens: int
    audio: float
    """Total duration of the recordings, in seconds."""
    compute: float
    """Total time for which the model worked, in seconds."""
    first_token_p50: float | None
    """Median time from the start of a call to the first text of its reply."""
    first_token_p95: float | None
    duration_p50: float | None
    """Median duration of successful calls."""
    duration_p95: float | None

    @property
    def shared_rate(self) -> float:
        """Fraction of the calls that were answered with a shared reply."""
        return self.shared / self.calls if self.calls else 0.0

    @property
    def prompt_cache_rate(self) -> float:
        """Fraction of the prompt tokens that were served from the KV cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def call_statistics(path: Path, since: float) -> list[StatsLine]:
    """Return statistics of the calls that started at `since` or later, by model, kind and purpose.

    `since` is in seconds since the Unix epoch. The call blocks on the disk and must run in a
    thread. Raises NotFound if there is no call log.
    """
    connection = open_read_only(path)
    try:
        rows = connection.execute(_STATISTICS, {"since": since}).fetchall()
    finally:
        connection.close()
    names = StatsLine.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), StatsLine) for row in rows]


def parse_duration(text: str) -> float:
    """Return the seconds in a duration such as `90s`, `30m`, `24h` or `7d`.

    Raises BadRequest (code `bad_span`) if the text is not a positive duration of at most ten years.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", text.strip().lower(), re.ASCII)
    seconds = float(match[1]) * UNIT_SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_DURATION:
        raise BadRequest(
            f"`{text[:40]}` is not a valid duration. Use a number and a unit, such as 30m, 24h or "
            "7d; the maximum is ten years.",
            code=ErrorCode.BAD_SPAN,
        )
    return seconds
