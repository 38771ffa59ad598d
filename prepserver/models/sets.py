"""Sets of models: the state of each in the store, and the sets that a machine can run."""

from collections.abc import Sequence

from msgspec import Struct

from prepserver.models.attempts import is_locked, read_problem, unfinished_bytes
from prepserver.models.catalogue import ModelSet
from prepserver.models.store import ModelStore

__all__ = ["Machine", "StoredSet", "choose_set", "find_obstacle", "is_set_installed", "list_sets"]

SPARE_MEMORY = 1.5
"""Memory that a machine needs for a set, as a multiple of what the set's engines use: the rest is
for the system, the client and the cached files of the models."""


class Machine(Struct, frozen=True, kw_only=True):
    """Hardware that the engines may use."""

    memory: int
    """Memory in bytes."""
    cores: int


class StoredSet(Struct, frozen=True, kw_only=True):
    """State of a set in the store."""

    name: str
    language: str
    speech: str
    size: int
    """Size of the model files in bytes."""
    fetched: int
    """Bytes of the models that are on the disk, including unfinished downloads."""
    installed: bool
    fetching: bool = False
    """True while a process is fetching a model of the set."""
    problem: str = ""
    """Reason why the last attempt to fetch a model of the set failed; empty after a success."""
    about: str = ""


def is_set_installed(store: ModelStore, chosen: ModelSet) -> bool:
    """Return True if both models of a set are installed."""
    return all(store.is_installed(entry) for entry in store.catalogue.models_of(chosen))


def list_sets(store: ModelStore) -> tuple[StoredSet, ...]:
    """Return the state of all sets of the catalogue, in its order."""
    return tuple(find_stored_set(store, each) for each in store.catalogue.sets)


def find_stored_set(store: ModelStore, chosen: ModelSet) -> StoredSet:
    """Return the state of one set."""
    entries = store.catalogue.models_of(chosen)
    missing = [entry for entry in entries if not store.is_installed(entry)]
    size = sum(entry.size for entry in entries)
    left = sum(
        entry.size - min(entry.size, unfinished_bytes(store, entry.name)) for entry in missing
    )
    problems = [problem for entry in missing if (problem := read_problem(store, entry.name))]
    return StoredSet(
        name=chosen.name,
        language=chosen.language,
        speech=chosen.speech,
        size=size,
        fetched=size - left,
        installed=not missing,
        fetching=any(is_locked(store, entry.name) for entry in missing),
        problem=next(iter(problems), ""),
        about=chosen.about,
    )


def find_obstacle(chosen: ModelSet, machine: Machine) -> str:
    """Return the reason why a machine cannot run a set at a bearable speed; empty if it can."""
    needed = SPARE_MEMORY * chosen.memory
    if machine.memory < needed:
        return (
            f"it needs {needed / 1e9:.1f} GB of memory, and this machine has "
            f"{machine.memory / 1e9:.1f} GB"
        )
    if machine.cores < chosen.cores:
        cores = "1 processor core" if chosen.cores == 1 else f"{chosen.cores} processor cores"
        return f"it needs {cores}, and this machine has {machine.cores}"
    return ""


def choose_set(usable: Sequence[ModelSet], machine: Machine) -> ModelSet | None:
    """Return the set that new interviews use if none is named: the last of `usable` that the server
    may choose and the machine can run, otherwise the first; None if there is none."""
    able = [each for each in usable if each.automatic and not find_obstacle(each, machine)]
    return next(iter([*reversed(able), *usable]), None)
