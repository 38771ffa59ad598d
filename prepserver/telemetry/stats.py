"""What the log of calls says together: how many, how fast, how often in vain."""

import re
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.telemetry.call_log import read
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Load", "StatsLine", "parse_span", "statistics"]

UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
LONGEST_SPAN = 3_660 * UNITS["d"]

# A percentile by nearest rank: the smallest value that at least that share of all does not exceed.
_STATISTICS = """
WITH chosen AS (SELECT * FROM calls WHERE at >= :since),
firsts AS (
    SELECT model, kind, purpose, first,
        row_number() OVER (PARTITION BY model, kind, purpose ORDER BY first) AS rank,
        count(*) OVER (PARTITION BY model, kind, purpose) AS total
    FROM chosen WHERE first IS NOT NULL
),
durations AS (
    SELECT model, kind, purpose, duration,
        row_number() OVER (PARTITION BY model, kind, purpose ORDER BY duration) AS rank,
        count(*) OVER (PARTITION BY model, kind, purpose) AS total
    FROM chosen WHERE outcome = 'ok'
),
first_percentiles AS (
    SELECT model, kind, purpose, min(first) FILTER (WHERE rank >= 0.5 * total) AS p50,
        min(first) FILTER (WHERE rank >= 0.95 * total) AS p95
    FROM firsts GROUP BY model, kind, purpose
),
duration_percentiles AS (
    SELECT model, kind, purpose, min(duration) FILTER (WHERE rank >= 0.5 * total) AS p50,
        min(duration) FILTER (WHERE rank >= 0.95 * total) AS p95
    FROM durations GROUP BY model, kind, purpose
)
SELECT model, kind, purpose, count(*),
    count(*) FILTER (WHERE outcome NOT IN ('ok', 'cancelled', 'dropped')),
    count(*) FILTER (WHERE outcome = 'cancelled'), count(*) FILTER (WHERE outcome = 'dropped'),
    sum(retries), count(*) FILTER (WHERE step > 0), count(*) FILTER (WHERE shared <> ''),
    sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(audio), sum(compute),
    min(f.p50), min(f.p95), min(d.p50), min(d.p95)
FROM chosen LEFT JOIN first_percentiles f USING (model, kind, purpose)
LEFT JOIN duration_percentiles d USING (model, kind, purpose)
GROUP BY model, kind, purpose ORDER BY model, kind, purpose
"""


class Load(Struct, frozen=True, kw_only=True):
    """How busy one model is now."""

    job: str
    """`interviewer` or `ears`."""
    model: str
    state: str
    """`loading`, `ready` or `failed`."""
    parallel: int
    running: int
    waiting: int
    wait: float | None
    """Seconds that one more would have to wait; null while nothing has been measured."""


class StatsLine(Struct, frozen=True, kw_only=True):
    """The calls of one model for one purpose. Times in seconds; null when there were none."""

    model: str
    """Empty for calls that came to none, such as those over a limit."""
    kind: str
    purpose: str
    calls: int
    errors: int
    cancelled: int
    dropped: int
    """Read ahead no further, since there was no room."""
    retries: int
    fallbacks: int
    """Answered, or refused, by a model that stepped in."""
    shared: int
    """Answered from the cache or together with an equal one."""
    prompt_tokens: int
    cached_tokens: int
    """Of `prompt_tokens`, those that were not computed again."""
    completion_tokens: int
    audio: float
    """Of sound."""
    compute: float
    first_p50: float | None
    """From the call to its first words."""
    first_p95: float | None
    duration_p50: float | None
    """Of the calls that came to a good end."""
    duration_p95: float | None

    @property
    def cache_rate(self) -> float:
        """Share of the calls that needed no model."""
        return self.shared / self.calls if self.calls else 0.0

    @property
    def prefix_rate(self) -> float:
        """Share of the prompts' tokens that were not computed again."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def statistics(path: Path, since: float) -> list[StatsLine]:
    """The log's calls since then (seconds since the Unix epoch), by model, kind and purpose.

    Waits for the disk: call it from a thread. Raises NotFound when there is no log.
    """
    connection = read(path)
    try:
        rows = connection.execute(_STATISTICS, {"since": since}).fetchall()
    finally:
        connection.close()
    names = StatsLine.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), StatsLine) for row in rows]


def parse_span(text: str) -> float:
    """Seconds in a span such as `90s`, `30m`, `24h` or `7d`. Raises BadRequest."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", text.strip().lower(), re.ASCII)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST_SPAN:
        raise BadRequest(
            f"`{text[:40]}` is no span of time; write 30m, 24h or 7d, at most ten years.",
            code=ErrorCode.BAD_SPAN,
        )
    return seconds
