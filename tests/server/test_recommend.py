"""Recommendation of a set of models: the estimate, the rule and the measurement."""

from pathlib import Path

import pytest

from prepserver.clock import SystemClock
from prepserver.models.catalogue import Catalogue
from prepserver.models.sets import Machine
from prepserver.models.store import ModelStore
from prepserver.recommend import UNREAD_TOKENS, Speed, measure, report
from tests.server.engines.llama.running import STARTER
from tests.server.models.builders import catalogue, gguf, hub_entry
from tests.support.loop import asynchronous

STRONG = Machine(memory=16_000_000_000, cores=4)
WEAK = Machine(memory=1_000_000, cores=4)


def sets() -> Catalogue:
    """Return a catalogue of two sets; the language model of the second is ten times as large."""
    return catalogue(
        hub_entry("s", gguf(b"", 9_976)),
        hub_entry("b", gguf(b"", 99_976)),
        hub_entry("s.ears", b"x", kind="stt"),
        hub_entry("b.ears", b"y", kind="stt"),
        small=("s", "s.ears"),
        big=("b", "b.ears"),
    )


@pytest.mark.parametrize(
    ("machine", "speed", "best", "line"),
    [
        (STRONG, Speed(read=400, write=100), "big", "big: first word after about 1.1 s, then 10"),
        (STRONG, Speed(read=50, write=10), "small", "big: first word after about 9.0 s, then 1 "),
        (STRONG, Speed(read=1, write=1), "small", "small: first word after about 41.0 s"),
        (STRONG, None, "big", "not measured"),
        (WEAK, Speed(read=400, write=100), "small", "small: it needs 0.0 GB of memory"),
        (
            Machine(memory=16_000_000_000, cores=0),
            None,
            "small",
            "small: it needs 1 processor core,",
        ),
    ],
)
def test_the_recommended_set(
    tmp_path: Path, machine: Machine, speed: Speed | None, best: str, line: str
) -> None:
    """The largest set is recommended that the machine can run and whose first word comes within
    five seconds; the speeds are scaled by the sizes of the files."""
    store = ModelStore(tmp_path, sets())
    lines = report(store, machine, store.catalogue.sets[0] if speed else None, speed)
    assert any(line in each for each in lines)
    assert lines[-1].startswith(f"Recommended: {best}.")
    assert f"prep models get {best}" in lines[-1]


def test_an_installed_set_is_to_be_used(tmp_path: Path) -> None:
    """If the recommended set is installed, the command that uses it is named."""
    store = ModelStore(tmp_path, sets())
    for name, data in (("s", gguf(b"", 9_976)), ("s.ears", b"x")):
        (tmp_path / f"{name}.gguf").write_bytes(data)
    lines = report(store, WEAK, store.catalogue.sets[0], Speed(read=9, write=9, gpu=True))
    assert "a graphics card" in lines[0]
    assert "prep models use small" in lines[-1]


def test_the_first_word() -> None:
    """The first word takes the time to read the unread tokens and to write one token."""
    assert Speed(read=UNREAD_TOKENS, write=2).first_word == 1.5
    assert Speed(read=10, write=4).scaled(2) == Speed(read=5, write=2)


@pytest.mark.models
@asynchronous
async def test_the_starter_model_is_measured(models_dir: Path) -> None:
    """The measurement of the starter model runs through its engine and gives positive speeds."""
    speed = await measure(models_dir / STARTER, SystemClock())
    assert speed.read > 1
    assert speed.write > 1
