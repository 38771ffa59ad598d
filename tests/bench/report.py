"""Results of a benchmark: figures of prep and of a peer from the same run."""

import json
import math
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

__all__ = ["Row", "format_table", "machine", "make_row", "p95", "write_json"]


class Row(Struct, frozen=True, kw_only=True):
    """Line of a table, with medians over the interleaved repetitions of one run."""

    name: str
    unit: str
    prep: float
    peer: float | None = None
    """Median of the peer's repetitions; None if the measurement has no peer."""
    peer_name: str = ""
    ratio: float | None = None
    """Median ratio of prep to the peer; None without a peer or if `difference` is given."""
    difference: float | None = None
    """Median difference (prep minus peer); None without a peer or if `ratio` is given."""
    target: float | None = None
    """Bound for the comparison, or for `prep` if there is no peer; None without a bound."""
    at_least: bool = False
    """True if the target is a lower bound, False if it is an upper bound."""
    prep_runs: tuple[float, ...] = ()
    peer_runs: tuple[float, ...] = ()
    note: str = ""
    benchmark: str = ""
    """Name of the benchmark that measured this row."""

    @property
    def met(self) -> bool | None:
        """True if the target is met, False if the target is missed, None if there is no target."""
        measured = self.prep if self.peer is None else self.ratio
        if self.difference is not None:
            measured = self.difference
        if self.target is None or measured is None:
            return None
        return measured >= self.target if self.at_least else measured <= self.target


def make_row(
    name: str,
    unit: str,
    prep: Sequence[float],
    peer: Sequence[float] = (),
    *,
    peer_name: str = "",
    target: float | None = None,
    at_least: bool = False,
    difference: bool = False,
    note: str = "",
) -> Row:
    """Return a row that summarises the repetitions of prep and of the peer.

    Repetition n of prep is compared with repetition n of the peer: by their difference if
    `difference` is true, otherwise by their ratio.
    """
    pairs = list(zip(prep, peer, strict=True)) if peer else []
    compared = [a - b if difference else a / b for a, b in pairs]
    comparison = statistics.median(compared) if compared else None
    return Row(
        name=name,
        unit=unit,
        prep=statistics.median(prep),
        peer=statistics.median(peer) if peer else None,
        peer_name=peer_name,
        ratio=None if difference else comparison,
        difference=comparison if difference else None,
        target=target,
        at_least=at_least,
        prep_runs=tuple(prep),
        peer_runs=tuple(peer),
        note=note,
    )


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile of `values` by the nearest-rank method."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def machine() -> dict[str, str | int]:
    """Return the processor, number of cores, system and Python version of this machine."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| measurement | prep | peer | comparison | target | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        bound = compared = ""
        if row.target is not None:
            sign = "+" if row.difference is not None else ""
            bound = f"{'>=' if row.at_least else '<='} {row.target:{sign}g}"
        if row.ratio is not None:
            compared = f"{row.ratio:.2f}x"
        elif row.difference is not None:
            compared = f"{row.difference:+.2f}"
        peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit} ({row.peer_name})"
        met = {True: "yes", False: "no", None: ""}[row.met]
        name = f"{row.name} ({row.note})" if row.note else row.name
        lines.append(
            f"| {name} | {row.prep:.4g} {row.unit} | {peer} | {compared} | {bound} | {met} |"
        )
    return "\n".join(lines)


def write_json(path: Path, rows: Sequence[Row]) -> None:
    results = {"machine": machine(), "rows": msgspec.to_builtins(rows)}
    path.write_text(json.dumps(results, indent=2) + "\n")
