"""The statistics of calls as people and programs read them in a terminal."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from prepserver.ai.calllog import call_log_path
from prepserver.ai.statistics import Line, parse_span, statistics

__all__ = ["report"]

HEADINGS = (
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
WORDS = 2
"""Columns that hold words, to the left; figures are to the right."""


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
    return _table([HEADINGS, *(_cells(line) for line in lines)])


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.model or "(none)",
        line.purpose if line.kind == "generate" else f"{line.purpose} ({line.kind})",
        str(line.calls),
        str(line.errors),
        str(line.fallbacks),
        f"{line.cache_rate:.0%}",
        str(line.prompt_tokens),
        f"{line.prefix_rate:.0%}",
        str(line.completion_tokens),
        *(
            "-" if seconds is None else f"{seconds:.2f} s"
            for seconds in (line.first_p50, line.first_p95, line.duration_p50, line.duration_p95)
        ),
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < WORDS else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
