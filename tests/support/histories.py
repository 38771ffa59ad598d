"""Histories of power cuts: a server lives from one cut to the next, and is asked what it knows."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec
from msgspec import Struct

from tests.support.power import Disk

__all__ = ["Outcome", "endure"]

CUTS_PER_DISK = 20
"""After that many cuts a history ends and another begins on an empty disk: files stay small."""


class History(Protocol):
    """One disk, and those who remember what they were told before each cut."""

    disk: Disk

    @property
    def acknowledged(self) -> int:
        """How much has been acknowledged so far."""

    async def live(self) -> list[str]:
        """From one boot to the next cut; gives what the boot found to be wrong."""


class Outcome(Struct):
    """What came of a number of cuts."""

    cuts: int = 0
    acknowledged: int = 0
    kept: int = 0
    """Pieces of unsynced writes that survived a cut."""
    lost: int = 0
    violations: list[str] = msgspec.field(default_factory=list)

    def __str__(self) -> str:
        counts = (
            f"{self.cuts} cuts, {self.acknowledged} acknowledgements; of what was not synced "
            f"{self.kept} pieces were kept and {self.lost} lost; {len(self.violations)} violations"
        )
        return "\n".join((counts, *self.violations[:10]))


async def endure(
    begin: Callable[[Path, Random], History],
    folder: Path,
    seed: int,
    cuts: int,
    *,
    until_violated: bool = False,
) -> Outcome:
    """Cut the power that often, or until the first violation; prints the outcome."""
    outcome = Outcome()
    number = 0
    while outcome.cuts < cuts and not (until_violated and outcome.violations):
        # Each history has a seed of its own, so that one that fails can be run again alone.
        history = begin(folder / f"disk-{seed}-{number}", Random(seed * 1_000_000 + number))
        with history.disk.syncing():
            for _ in range(min(CUTS_PER_DISK, cuts - outcome.cuts)):
                found = await history.live()
                outcome.cuts += 1
                outcome.violations += [f"seed {seed}, disk {number}: {one}" for one in found]
                if found:
                    break  # what follows from a loss is not another one
        outcome.acknowledged += history.acknowledged
        outcome.kept += history.disk.tally["kept"]
        outcome.lost += history.disk.tally["lost"]
        history.disk.remove()
        number += 1
    print(outcome)
    return outcome
