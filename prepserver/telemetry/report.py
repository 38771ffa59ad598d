"""The statistics of calls as people and programs read them in a terminal."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from prepserver.telemetry.call_log import CallQuery, call_log_path, find
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.stats import StatsLine, parse_span, statistics

__all__ = ["listing", "report"]

STATISTICS = (
    "model",
    "what for",
    "calls",
    "errors",
    "stepped in",
    "shared",
    "tokens in",
    "cached",
    "tokens out",
    "first p50",
    "p95",
    "all p50",
    "p95",
)
CALLS = ("when (UTC)", "model", "what for", "interview", "outcome", "out", "queue", "first", "all")
"""Headings of the two tables. Columns of words are to the left, those of figures to the right."""


def report(data_dir: Path, since: str, *, as_json: bool, now: float) -> str:
    """A table, or JSON, of the calls in the span of time that ends now.

    Raises BadRequest when it is no span, NotFound when there is no log.
    """
    begin = now - parse_span(since)
    lines = statistics(call_log_path(data_dir), begin)
    if as_json:
        return msgspec.json.encode({"since": begin, "until": now, "lines": lines}).decode()
    if not lines:
        return f"There were no calls of a model in the last {since}."
    return _table([STATISTICS, *(_cells(line) for line in lines)], words=2)


def listing(
    data_dir: Path,
    since: str,
    *,
    user: str,
    interview: str,
    purpose: str,
    limit: int,
    as_json: bool,
    now: float,
) -> str:
    """Single calls in the span of time that ends now, the newest first; `user` is an id, and what
    is empty does not matter. JSON has a call on each line, with all that was logged.

    Raises as `report` does.
    """
    query = CallQuery(
        user=user,
        interview=interview,
        purpose=purpose,
        since=now - parse_span(since),
        limit=limit,
    )
    records = find(call_log_path(data_dir), query)
    if as_json:
        return "\n".join(msgspec.json.encode(record).decode() for record in records)
    if not records:
        return f"There were no such calls in the last {since}."
    return _table([CALLS, *(_call(record) for record in records)], words=5)


def _call(record: CallRecord) -> tuple[str, ...]:
    return (
        f"{datetime.fromtimestamp(record.at, UTC):%Y-%m-%d %H:%M:%S}",
        record.model or "(none)",
        _purpose(record.kind, record.purpose),
        record.interview,
        record.outcome,
        str(record.completion_tokens),
        *(_seconds(value) for value in (record.queued, record.first, record.duration)),
    )


def _purpose(kind: str, purpose: str) -> str:
    return purpose if kind in ("generate", purpose) else f"{purpose} ({kind})"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _cells(line: StatsLine) -> tuple[str, ...]:
    return (
        line.model or "(none)",
        _purpose(line.kind, line.purpose),
        str(line.calls),
        str(line.errors),
        str(line.fallbacks),
        f"{line.cache_rate:.0%}",
        str(line.prompt_tokens),
        f"{line.prefix_rate:.0%}",
        str(line.completion_tokens),
        *(
            _seconds(value)
            for value in (line.first_p50, line.first_p95, line.duration_p50, line.duration_p95)
        ),
    )


def _table(rows: Sequence[Sequence[str]], *, words: int) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
