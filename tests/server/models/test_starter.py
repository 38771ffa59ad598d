"""The starter models themselves, as `make models` fetched them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from prepserver.config import default_models_dir
from prepserver.models.catalogue import CatalogueEntry, builtin_catalogue
from prepserver.models.store import ModelStore, detect_kind

SPEECH = Path(__file__).parents[2] / "speech"

# Each engine carries a ggml of its own, so each is loaded in a process of its own.
TRANSCRIBE = """
import sys
from pywhispercpp.model import Model
segments = Model(sys.argv[1], n_threads=2).transcribe(sys.argv[2])
print(" ".join(segment.text for segment in segments))
"""
GENERATE = """
import sys
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=64, n_threads=2, verbose=False)
print(model("The capital of France is", max_tokens=4, temperature=0)["choices"][0]["text"])
"""

pytestmark = pytest.mark.models


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-c", script, *(str(argument) for argument in arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.parametrize(
    "entry", builtin_catalogue().expand("starter"), ids=lambda entry: entry.name
)
def test_the_file_is_the_pinned_one(entry: CatalogueEntry) -> None:
    """Its hash is read from the disk; its kind is the catalogue's."""
    store = ModelStore(default_models_dir())
    store.verify(entry.name)
    assert detect_kind(store.path(entry.name)) == entry.kind


def test_the_converted_whisper_hears() -> None:
    """whisper.cpp reads the file that was converted and writes down a recording word by word."""
    transcripts = dict(
        line.split("\t") for line in (SPEECH / "transcripts.tsv").read_text().splitlines()
    )
    path = ModelStore(default_models_dir()).path("whisper-tiny.en")
    heard = run(TRANSCRIBE, path, SPEECH / "short-answer.wav")
    expected = transcripts["short-answer"]
    assert re.findall(r"\w+", heard.lower()) == re.findall(r"\w+", expected.lower())


def test_the_interviewer_writes() -> None:
    """llama.cpp reads the file and knows where the Eiffel Tower stands."""
    path = ModelStore(default_models_dir()).path("smollm2-135m-instruct")
    assert "Paris" in run(GENERATE, path)
