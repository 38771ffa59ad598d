"""Reports on model calls for `prep-server stats` and `prep-server calls`: text tables and JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from prepserver.telemetry.call_log import CallQuery, call_log_path, find_calls
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.stats import StatsLine, call_statistics, parse_duration

__all__ = ["call_list", "statistics_report"]

STATISTICS_HEADINGS = (
    "model",
    "purpose",
    "calls",
    "errors",
    "fallback",
    "shared",
    "prompt tokens",
    "cached",
    "reply tokens",
    "first token p50",
    "p95",
    "total p50",
    "p95",
)
CALL_HEADINGS = (
    "time (UTC)",
    "model",
    "purpose",
    "interview",
    "outcome",
    "tokens",
    "queued",
    "first token",
    "total",
)


def statistics_report(data_dir: Path, since: str, *, as_json: bool, now: float) -> str:
    """Return statistics of recent calls as a table or as JSON.

    `since` is the length of the period that ends at `now`, such as `24h`. Raises BadRequest if
    `since` is not a valid duration, and NotFound if there is no call log.
    """
    start = now - parse_duration(since)
    lines = call_statistics(call_log_path(data_dir), start)
    if as_json:
        return msgspec.json.encode({"since": start, "until": now, "lines": lines}).decode()
    if not lines:
        return f"No model calls in the last {since}."
    return _table([STATISTICS_HEADINGS, *(_statistics_row(line) for line in lines)], text_columns=2)


def call_list(
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
    """Return recent calls, newest first, as a table or as JSON lines.

    `since` is the length of the period that ends at `now`, such as `24h`. `user` is a user's id. An
    empty filter matches every call. A line of JSON holds all fields of one call. Raises BadRequest
    if `since` is not a valid duration, and NotFound if there is no call log.
    """
    query = CallQuery(
        user=user,
        interview=interview,
        purpose=purpose,
        since=now - parse_duration(since),
        limit=limit,
    )
    records = find_calls(call_log_path(data_dir), query)
    if as_json:
        return "\n".join(msgspec.json.encode(record).decode() for record in records)
    if not records:
        return f"No matching calls in the last {since}."
    return _table([CALL_HEADINGS, *(_call_row(record) for record in records)], text_columns=5)


def _call_row(record: CallRecord) -> tuple[str, ...]:
    return (
        f"{datetime.fromtimestamp(record.at, UTC):%Y-%m-%d %H:%M:%S}",
        record.model or "(none)",
        _purpose(record.kind, record.purpose),
        record.interview,
        record.outcome,
        str(record.completion_tokens),
        *(_seconds(value) for value in (record.queued, record.first_token, record.duration)),
    )


def _statistics_row(line: StatsLine) -> tuple[str, ...]:
    times = (line.first_token_p50, line.first_token_p95, line.duration_p50, line.duration_p95)
    return (
        line.model or "(none)",
        _purpose(line.kind, line.purpose),
        str(line.calls),
        str(line.errors),
        str(line.fallbacks),
        f"{line.shared_rate:.0%}",
        str(line.prompt_tokens),
        f"{line.prompt_cache_rate:.0%}",
        str(line.completion_tokens),
        *(_seconds(value) for value in times),
    )


def _purpose(kind: str, purpose: str) -> str:
    return purpose if kind in ("generate", purpose) else f"{purpose} ({kind})"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _table(rows: Sequence[Sequence[str]], *, text_columns: int) -> str:
    """Return the rows as a text table.

    The first `text_columns` columns are aligned to the left, the others to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
