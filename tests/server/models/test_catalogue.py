"""The model catalogue."""

from typing import Any

import pytest

from prepserver.errors import ModelNotFound
from prepserver.models.catalogue import HubSource, PackageSource, builtin_catalogue
from tests.server.models.builders import catalogue, hub_entry


def test_the_starter_is_a_language_model_and_a_speech_model() -> None:
    """The alias `starter` stands for a language model and a speech model, both from the package
    index."""
    language, speech = builtin_catalogue().expand("starter")
    assert (language.name, language.kind) == ("smollm2-135m-instruct", "llm")
    assert (speech.name, speech.kind) == ("whisper-tiny.en", "stt")
    assert isinstance(language.sources[0], PackageSource)
    assert isinstance(speech.sources[0], PackageSource)


def test_every_model_has_a_pinned_hash() -> None:
    """The catalogue states the hash of every model file, including those on the hub."""
    assert [entry.name for entry in builtin_catalogue().models if not entry.sha256] == []


def test_a_name_expands_to_one_model() -> None:
    """A name that is not an alias expands to the one model with that name."""
    (entry,) = builtin_catalogue().expand("llama-3.1-8b-instruct")
    assert entry.sources == (
        HubSource(
            repo="bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
            file="Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
        ),
    )


def test_an_unknown_name_suggests_similar_ones() -> None:
    """Expanding a misspelt name raises ModelNotFound with the correct name as a suggestion."""
    with pytest.raises(ModelNotFound, match=r"whisper-small\.en"):
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
        ([ENTRY | {"sources": [{"type": "ftp"}]}], {}),
    ],
)
def test_an_inconsistent_catalogue_is_rejected(
    entries: list[dict[str, Any]], aliases: dict[str, list[str]]
) -> None:
    """Loading a catalogue with duplicates, aliases of unknown models, paths outside the models
    folder or invalid values raises ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - raised by msgspec or by `validate`
        catalogue(*entries, **aliases)
