"""What the ears are loaded with."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from prepserver.engines import hardware
from prepserver.engines.whisper import loading
from prepserver.engines.whisper.options import WhisperOptions


@pytest.mark.parametrize(("asked", "expected"), [(0, 2), (3, 3)])
def test_ears_have_a_thread_for_each_core_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: int, expected: int
) -> None:
    """Of four processors that are two cores, two: as many as the language model has."""
    given: list[int] = []
    acted = ModuleType("pywhispercpp_transcriber")
    acted.__dict__["PywhispercppTranscriber"] = lambda path, threads: given.append(threads)
    monkeypatch.setitem(sys.modules, "prepserver.engines.whisper.pywhispercpp_transcriber", acted)
    monkeypatch.setattr(loading, "check_whisper", lambda path: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    siblings = {"cpu0": "0,2", "cpu1": "1,3", "cpu2": "0,2", "cpu3": "1,3"}
    monkeypatch.setattr(hardware, "_read", lambda path: siblings.get(path.parts[-3], ""))
    path = tmp_path / "ggml-model.bin"
    path.touch()
    loading.loaded(WhisperOptions(path=str(path), binding="pywhispercpp", n_threads=asked))
    assert given == [expected]
