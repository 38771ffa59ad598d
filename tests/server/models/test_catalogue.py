"""The catalogue of models."""

from typing import Any

import pytest

from prepserver.models.catalogue import HubSource, PackageSource, builtin_catalogue
from prepserver.models.errors import ModelNotFound
from tests.server.models.builders import catalogue, hub_entry


def test_the_starter_is_one_that_writes_and_one_that_listens() -> None:
    """Both come from the package index, so that they arrive wherever pip does."""
    writer, listener = builtin_catalogue().expand("starter")
    assert (writer.name, writer.kind) == ("smollm2-135m-instruct", "llm")
    assert (listener.name, listener.kind) == ("whisper-tiny.en", "stt")
    assert isinstance(writer.source, PackageSource)
    assert isinstance(listener.source, PackageSource)


def test_every_model_is_pinned() -> None:
    """The catalogue names the hash of every file, from the hub as well."""
    assert [entry.name for entry in builtin_catalogue().models if not entry.sha256] == []


def test_a_name_is_one_model() -> None:
    """A name that is no alias stands for itself."""
    (entry,) = builtin_catalogue().expand("llama-3.1-8b-instruct")
    assert entry.source == HubSource(
        repo="bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
        file="Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
    )


def test_a_name_that_nobody_knows_brings_those_that_come_close() -> None:
    """The error of a slip of the finger says what was probably meant."""
    with pytest.raises(ModelNotFound, match=r"Did you mean whisper-small\.en"):
        builtin_catalogue().expand("whisper-smal.en")


ENTRY = hub_entry("tiny", b"x")


@pytest.mark.parametrize(
    ("entries", "aliases"),
    [
        ([ENTRY, ENTRY], {}),
        ([ENTRY, ENTRY | {"name": "other"}], {}),
        ([ENTRY], {"tiny": ["tiny"]}),
        ([ENTRY], {"both": ["tiny", "other"]}),
        ([ENTRY], {"none": []}),
        ([ENTRY | {"name": "../tiny"}], {}),
        ([ENTRY | {"file": "../tiny.gguf"}], {}),
        ([ENTRY | {"file": "/tmp/tiny.gguf"}], {}),
        ([ENTRY | {"file": ".."}], {}),
        ([ENTRY | {"file": ".hidden"}], {}),
        ([ENTRY | {"sha256": "abc"}], {}),
        ([ENTRY | {"size": 0}], {}),
        ([ENTRY | {"kind": "tts"}], {}),
        ([ENTRY | {"colour": "red"}], {}),
        ([ENTRY | {"source": {"type": "ftp"}}], {}),
    ],
)
def test_a_catalogue_that_contradicts_itself_is_refused(
    entries: list[dict[str, Any]], aliases: dict[str, list[str]]
) -> None:
    """A name or file twice, an alias for nothing, a path out of the store, a slip in a type."""
    with pytest.raises(ValueError):  # noqa: PT011 - the library's class and ours
        catalogue(*entries, **aliases)


def test_a_package_needs_a_hash_and_the_right_members() -> None:
    """A wheel's file is always pinned; a conversion takes the model and its vocabulary."""
    source = {
        "type": "package", "name": "p", "version": "1", "size": 1, "sha256": "0" * 64,
        "members": ["m"],
    }  # fmt: skip
    catalogue(ENTRY | {"source": source})
    for wrong in (
        ENTRY | {"source": source, "sha256": ""},
        ENTRY | {"source": source | {"members": []}},
        ENTRY | {"source": source | {"convert": "ctranslate2-whisper"}},
    ):
        with pytest.raises(ValueError, match="needs"):
            catalogue(wrong)
