"""Histories of power cuts: a server runs from one cut to the next and is checked at each boot."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec
from msgspec import Struct

from tests.support.power import Disk

__all__ = ["Outcome", "run_power_cuts"]

CUTS_PER_DISK = 20
"""Maximum number of power cuts in a history. Each history starts on an empty disk, which keeps the
files small."""


class History(Protocol):
    """Disk with a record of everything that was acknowledged before each cut."""

    disk: Disk

    @property
    def acknowledged(self) -> int:
        """Number of acknowledgements so far."""

    async def run_until_cut(self) -> list[str]:
        """Run from one boot to the next power cut; return the violations found."""


class Outcome(Struct):
    """Counts and violations of a series of power cuts."""

    cuts: int = 0
    acknowledged: int = 0
    survived: int = 0
    """Number of unsynced operations, or parts of torn writes, that survived a cut."""
    lost: int = 0
    violations: list[str] = msgspec.field(default_factory=list)

    def __str__(self) -> str:
        counts = (
            f"{self.cuts} cuts, {self.acknowledged} acknowledgements; unsynced pieces: "
            f"{self.survived} survived, {self.lost} lost; {len(self.violations)} violations"
        )
        return "\n".join((counts, *self.violations[:10]))


async def run_power_cuts(
    begin: Callable[[Path, Random], History],
    folder: Path,
    seed: int,
    cuts: int,
    *,
    until_violated: bool = False,
) -> Outcome:
    """Cut the power `cuts` times, print the outcome and return it.

    With `until_violated`, stop after the first history with a violation.
    """
    outcome = Outcome()
    number = 0
    while outcome.cuts < cuts and not (until_violated and outcome.violations):
        # Each history has its own seed, so that a failing history can be repeated alone.
        history = begin(folder / f"disk-{seed}-{number}", Random(seed * 1_000_000 + number))
        with history.disk.track_fsync():
            for _ in range(min(CUTS_PER_DISK, cuts - outcome.cuts)):
                found = await history.run_until_cut()
                outcome.cuts += 1
                outcome.violations += [f"seed {seed}, disk {number}: {one}" for one in found]
                if found:
                    break  # later violations would follow from this one
        outcome.acknowledged += history.acknowledged
        outcome.survived += history.disk.tally["survived"]
        outcome.lost += history.disk.tally["lost"]
        history.disk.remove()
        number += 1
    print(outcome)
    return outcome
