"""Arguments that the transcriber receives from the loader."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from prepserver.engines import hardware
from prepserver.engines.whisper import loader
from prepserver.engines.whisper.options import WhisperOptions


@pytest.mark.parametrize(("n_threads", "expected"), [(0, 2), (3, 3)])
def test_the_default_is_one_thread_for_each_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_threads: int, expected: int
) -> None:
    """By default, the transcriber has one thread for each physical core; an explicit number of
    threads takes precedence."""
    used: list[int] = []
    binding = ModuleType("pywhispercpp_transcriber")
    binding.__dict__["PywhispercppTranscriber"] = lambda path, threads: used.append(threads)
    monkeypatch.setitem(sys.modules, "prepserver.engines.whisper.pywhispercpp_transcriber", binding)
    monkeypatch.setattr(loader, "validate_whisper", lambda path: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    siblings = {"cpu0": "0,2", "cpu1": "1,3", "cpu2": "0,2", "cpu3": "1,3"}
    monkeypatch.setattr(hardware, "_read", lambda path: siblings.get(path.parts[-3], ""))
    path = tmp_path / "ggml-model.bin"
    path.touch()
    options = WhisperOptions(path=str(path), binding="pywhispercpp", n_threads=n_threads)
    loader.load_transcriber(options)
    assert used == [expected]
