"""Sets that the server offers: the choice for new interviews, and replacements."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from prepserver.config import Config
from prepserver.errors import BadRequest, ModelError, ModelNotFound
from prepserver.gateway.pool import FixedSet
from prepserver.model_sets import InstalledSets, create_fetch, create_source, wanted_models
from prepserver.models import store as store_module
from prepserver.models.sets import Machine, find_obstacle, list_sets
from prepserver.models.store import ModelStore
from tests.server.models.builders import catalogue, gguf, hub_entry
from tests.support.clock import ManualClock

STRONG = Machine(memory=100_000_000_000, cores=64)
WEAK = Machine(memory=1_000_000, cores=64)
SETS = {"small": ("s", "s.ears"), "medium": ("m", "m.ears"), "big": ("b", "b.ears")}


def ggml(content: bytes) -> bytes:
    return (0x67676D6C).to_bytes(4, "little") + content


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty models folder, for a catalogue of three sets."""
    entries = []
    for language, speech in SETS.values():
        entries.append(hub_entry(language, gguf(language.encode())))
        entries.append(hub_entry(speech, ggml(speech.encode()), kind="stt"))
    known = catalogue(*entries, **SETS)
    monkeypatch.setattr(store_module, "builtin_catalogue", lambda: known)
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def install(folder: Path, *names: str) -> None:
    for name in names:
        language, speech = SETS[name]
        (folder / f"{language}.gguf").write_bytes(gguf(language.encode()))
        (folder / f"{speech}.gguf").write_bytes(ggml(speech.encode()))


def source(folder: Path, machine: Machine = STRONG, **settings: Any) -> InstalledSets:
    config = Config(data_dir=folder.parent / "data", models_dir=folder, **settings)
    return InstalledSets(config, ManualClock(), machine)


@pytest.mark.parametrize(
    ("installed", "machine", "named", "chosen"),
    [
        (("small",), STRONG, "", "small"),
        (("small", "medium"), STRONG, "", "medium"),
        (("small", "medium"), WEAK, "", "small"),
        (("medium",), WEAK, "", "medium"),
        (("small", "medium"), WEAK, "medium", "medium"),
        (("small", "medium"), STRONG, "small", "small"),
        (("small",), STRONG, "big", "small"),
        ((), STRONG, "", "small"),
        ((), STRONG, "big", "big"),
    ],
)
def test_the_set_of_new_interviews(
    models: Path, installed: tuple[str, ...], machine: Machine, named: str, chosen: str
) -> None:
    """New interviews use the named set if it is installed, otherwise the largest installed set that
    the machine can run, otherwise the smallest."""
    install(models, *installed)
    assert source(models, machine, model_set=named).resolve("") == chosen


def test_a_set_that_arrives_is_used_by_the_next_interview(models: Path) -> None:
    """A set that is installed while the server runs becomes the choice for new interviews; earlier
    interviews keep theirs."""
    install(models, "small")
    sets = source(models)
    assert sets.resolve("") == "small"
    install(models, "medium")
    assert (sets.resolve(""), sets.resolve("small")) == ("medium", "small")


def test_a_removed_set_is_replaced_with_a_logged_reason(models: Path) -> None:
    """An interview whose set was removed uses an installed one, and the reason is logged once; a
    name that is in no catalogue is replaced without a line in the log."""
    install(models, "small", "medium")
    sets = source(models)
    (models / "m.gguf").unlink()
    with capture_logs() as logs:
        assert {sets.resolve("medium") for _ in range(5)} == {"small"}
        assert sets.resolve("no such set") == "small"
    assert [(log["wanted"], log["used"]) for log in logs] == [("medium", "small")]
    assert all(log["reason"] for log in logs)


def test_a_damaged_set_is_replaced(models: Path) -> None:
    """A set whose file has a wrong hash cannot be created, and is then replaced."""
    install(models, "small", "medium")
    (models / "m.gguf").write_bytes(gguf(b"x"))
    sets = source(models)
    assert sets.resolve("") == "medium"
    with pytest.raises(ModelError):
        sets.create("medium")
    assert sets.resolve("medium") == "small"
    assert sets.create("small").memory == 1_000_000


@pytest.mark.parametrize("setting", ["model_set", "fetch_set"])
def test_an_unknown_set_is_rejected(models: Path, setting: str) -> None:
    """A setting with the name of no set raises an error that lists the sets."""
    with pytest.raises(BadRequest, match="small, medium, big"):
        source(models, STRONG, **{setting: "huge"})


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ("s", "s.ears")),
        ({"model_set": "medium"}, ("m", "m.ears")),
        ({"model_set": "medium", "fetch_set": "medium"}, ("s", "s.ears")),
        ({"model": "b"}, ("b", "s.ears")),
        ({"stt_model": "b.ears"}, ("s", "b.ears")),
        ({"fallback": ("b",)}, ("s", "b", "s.ears")),
        ({"model": "m", "stt_model": "m.ears", "model_set": "big"}, ("m", "m.ears")),
    ],
)
def test_models_that_a_new_machine_lacks(
    models: Path, settings: dict[str, Any], names: tuple[str, ...]
) -> None:
    """With nothing installed, a server that fetches by itself wants the smallest set, another one
    the named set; settings that name models want those."""
    config = Config(data_dir=models.parent / "data", models_dir=models, **settings)
    assert wanted_models(config) == names


def test_named_models_are_the_only_set(models: Path) -> None:
    """A server whose settings name models offers them alone, and nothing is fetched."""
    install(models, "small")
    config = Config(
        data_dir=models.parent / "data",
        models_dir=models,
        model="scripted",
        stt_model="scripted",
        fetch_set="medium",
    )
    named = create_source(config, ManualClock())
    assert isinstance(named, FixedSet)
    assert named.resolve("small") == named.resolve("") == FixedSet.NAME
    assert create_fetch(config, ManualClock(), lambda state: None) is None


def test_a_missing_set_names_the_model_to_fetch(models: Path) -> None:
    """Creating a set that is not installed raises ModelNotFound."""
    with pytest.raises(ModelNotFound):
        source(models).create("small")


@pytest.mark.parametrize(
    ("machine", "obstacle"),
    [
        (STRONG, ""),
        (Machine(memory=1_500_000, cores=1), ""),
        (Machine(memory=1_499_999, cores=1), "memory"),
        (Machine(memory=2_000_000, cores=0), "processor core"),
        (Machine(memory=0, cores=0), "memory"),
    ],
)
def test_the_rule_for_a_machine(models: Path, machine: Machine, obstacle: str) -> None:
    """A machine needs one and a half times the set's memory, and the set's cores."""
    found = find_obstacle(ModelStore(models).catalogue.sets[0], machine)
    assert obstacle in found
    assert bool(found) is bool(obstacle)


def test_the_state_of_a_set_counts_unfinished_downloads(models: Path) -> None:
    """The bytes of a set are those of its installed models and of incomplete files, at most the
    size of each model."""
    store = ModelStore(models)
    size = len(gguf()) + len(ggml(b"s.ears"))
    empty = list_sets(store)[0]
    assert (empty.size, empty.fetched, empty.installed) == (size, 0, False)
    (store.work_folder("s", "package") / "joined").write_bytes(bytes(100))
    assert list_sets(store)[0].fetched == 100
    (store.work_folder("s", "hub") / "x.part").write_bytes(bytes(100_000))
    assert list_sets(store)[0].fetched == len(gguf())
    install(models, "small")
    done = list_sets(store)[0]
    assert (done.fetched, done.installed) == (size, True)
