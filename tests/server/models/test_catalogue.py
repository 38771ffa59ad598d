"""The model catalogue."""

from typing import Any

import pytest

from prepserver.errors import ModelNotFound
from prepserver.models.catalogue import HubSource, PackageSource, builtin_catalogue
from tests.server.models.builders import catalogue, hub_entry


def test_the_starter_is_a_language_model_and_a_speech_model() -> None:
    """The set `starter` stands for a language model and a speech model, both from the package
    index."""
    language, speech = builtin_catalogue().expand("starter")
    assert (language.name, language.kind) == ("smollm2-135m-instruct", "llm")
    assert (speech.name, speech.kind) == ("whisper-tiny.en", "stt")
    assert isinstance(language.sources[0], PackageSource)
    assert isinstance(speech.sources[0], PackageSource)


@pytest.mark.parametrize(
    ("name", "language", "speech"),
    [
        ("standard", "qwen2.5-coder-1.5b-instruct", "whisper-base"),
        ("large", "llama-3.1-8b-instruct", "whisper-large-v3-turbo"),
    ],
)
def test_the_larger_sets(name: str, language: str, speech: str) -> None:
    """The sets `standard` and `large` name a language model and a speech model for any
    language."""
    assert [entry.name for entry in builtin_catalogue().expand(name)] == [language, speech]


def test_only_a_named_set_may_need_a_graphics_card() -> None:
    """The server may choose `starter` and `standard` by itself, and `large` only if it is named."""
    assert [each.name for each in builtin_catalogue().sets if each.automatic] == [
        "starter",
        "standard",
    ]


def test_every_model_has_a_pinned_hash() -> None:
    """The catalogue states the hash of every model file, including those on the hub."""
    assert [entry.name for entry in builtin_catalogue().models if not entry.sha256] == []


def test_a_name_expands_to_one_model() -> None:
    """The name of a model expands to the one model with that name."""
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
SPEECH = hub_entry("ears", b"y", kind="stt")


@pytest.mark.parametrize(
    ("entries", "sets"),
    [
        ([ENTRY, ENTRY], {}),
        ([ENTRY, ENTRY | {"name": "other"}], {}),
        ([ENTRY, SPEECH], {"tiny": ("tiny", "ears")}),
        ([ENTRY, SPEECH], {"set": ("tiny", "other")}),
        ([ENTRY, SPEECH], {"set": ("ears", "tiny")}),
        ([ENTRY, SPEECH], {"set": ("tiny", "")}),
        ([ENTRY, SPEECH], {"one": ("tiny", "ears"), "two": ("tiny", "ears")}),
        ([ENTRY, SPEECH], {"A set": ("tiny", "ears")}),
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
    entries: list[dict[str, Any]], sets: dict[str, tuple[str, str]]
) -> None:
    """Loading a catalogue with duplicates, incomplete or overlapping sets, paths outside the models
    folder or invalid values raises ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - raised by msgspec or by `validate`
        catalogue(*entries, **sets)
