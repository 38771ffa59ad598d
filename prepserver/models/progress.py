"""How far a long piece of work is."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

__all__ = ["Progress", "ProgressCallback", "Stage", "ignore_progress"]

Stage = Literal["waiting", "downloading", "verifying", "unpacking", "converting", "copying"]
"""`waiting` is for another process that fetches the same model."""


class Progress(Struct, frozen=True):
    """One step; each stage counts from 0 anew."""

    model: str
    stage: Stage
    done: int
    """Bytes; tensors while converting."""
    total: int
    """0 when nobody knows."""


ProgressCallback = Callable[[Progress], None]
"""Called often, from the thread that does the work."""


def ignore_progress(_: Progress) -> None:
    """A report to nobody."""
