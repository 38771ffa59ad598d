"""The starter models that `make models` fetches."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from prepserver.folders import default_models_dir
from prepserver.models.catalogue import CatalogueEntry, builtin_catalogue
from prepserver.models.store import ModelStore, detect_kind

SPEECH = Path(__file__).parents[2] / "speech"

# Each engine bundles its own ggml, so each is loaded in a separate process.
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
def test_a_starter_model_has_its_pinned_hash(entry: CatalogueEntry) -> None:
    """The file of each starter model has the hash and the kind that the catalogue states."""
    store = ModelStore(default_models_dir())
    store.verify(entry.name)
    assert detect_kind(store.installed_path(entry.name)) == entry.kind


def test_whisper_cpp_transcribes_with_the_converted_model() -> None:
    """whisper.cpp loads the converted model and transcribes every word in a recording correctly."""
    transcripts = dict(
        line.split("\t") for line in (SPEECH / "transcripts.tsv").read_text().splitlines()
    )
    path = ModelStore(default_models_dir()).installed_path("whisper-tiny.en")
    transcript = run(TRANSCRIBE, path, SPEECH / "short-answer.wav")
    expected = transcripts["short-answer"]
    assert re.findall(r"\w+", transcript.lower()) == re.findall(r"\w+", expected.lower())


def test_llama_cpp_generates_with_the_starter_model() -> None:
    """llama.cpp loads the starter model, which names Paris as the capital of France."""
    path = ModelStore(default_models_dir()).installed_path("smollm2-135m-instruct")
    assert "Paris" in run(GENERATE, path)
