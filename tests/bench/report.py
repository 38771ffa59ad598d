"""What a benchmark found: figures of ours beside a peer's, from the same run."""

import json
import math
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

__all__ = ["Row", "machine", "p95", "row", "table", "write_json"]


class Row(Struct, frozen=True, kw_only=True):
    """One line of a table. Figures are medians over the interleaved repetitions of one run."""

    name: str
    unit: str
    ours: float
    peer: float | None = None
    """None: a figure on its own, with a target in its own unit or none at all."""
    peer_name: str = ""
    ratio: float | None = None
    """Median over the repetitions of ours / peer."""
    difference: float | None = None
    """The same of ours - peer, in the place of a ratio where one would say little."""
    target: float | None = None
    """Of the ratio or the difference if there is a peer, of `ours` otherwise."""
    at_least: bool = False
    """Whether the target is a lower bound."""
    ours_runs: tuple[float, ...] = ()
    peer_runs: tuple[float, ...] = ()
    note: str = ""
    benchmark: str = ""
    """Which one found it."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        measured = self.ours if self.peer is None else self.ratio
        if self.difference is not None:
            measured = self.difference
        if self.target is None or measured is None:
            return None
        return measured >= self.target if self.at_least else measured <= self.target


def row(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float] = (),
    *,
    peer_name: str = "",
    target: float | None = None,
    at_least: bool = False,
    difference: bool = False,
    note: str = "",
) -> Row:
    """A row from the repetitions; the n-th of ours ran beside the n-th of the peer. `difference`
    compares the two by that and not by their ratio."""
    pairs = list(zip(ours, peer, strict=True)) if peer else []
    compared = [a - b if difference else a / b for a, b in pairs]
    comparison = statistics.median(compared) if compared else None
    return Row(
        name=name,
        unit=unit,
        ours=statistics.median(ours),
        peer=statistics.median(peer) if peer else None,
        peer_name=peer_name,
        ratio=None if difference else comparison,
        difference=comparison if difference else None,
        target=target,
        at_least=at_least,
        ours_runs=tuple(ours),
        peer_runs=tuple(peer),
        note=note,
    )


def p95(values: Sequence[float]) -> float:
    """By nearest rank."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def machine() -> dict[str, str | int]:
    """What the figures depend on besides the code."""
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


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| what | ours | peer | compared | target | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in rows:
        bound = compared = ""
        if each.target is not None:
            sign = "+" if each.difference is not None else ""
            bound = f"{'>=' if each.at_least else '<='} {each.target:{sign}g}"
        if each.ratio is not None:
            compared = f"{each.ratio:.2f}x"
        elif each.difference is not None:
            compared = f"{each.difference:+.2f}"
        peer = "" if each.peer is None else f"{each.peer:.4g} {each.unit} ({each.peer_name})"
        met = {True: "yes", False: "no", None: ""}[each.met]
        what = f"{each.name} ({each.note})" if each.note else each.name
        lines.append(
            f"| {what} | {each.ours:.4g} {each.unit} | {peer} | {compared} | {bound} | {met} |"
        )
    return "\n".join(lines)


def write_json(path: Path, rows: Sequence[Row]) -> None:
    found = {"machine": machine(), "rows": msgspec.to_builtins(rows)}
    path.write_text(json.dumps(found, indent=2) + "\n")
