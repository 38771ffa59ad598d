"""The model store: finding, listing, importing and verifying models."""

import os
from pathlib import Path

import pytest

from prepserver.errors import Conflict, ModelError, ModelNotFound
from prepserver.models.catalogue import GGML_MAGIC
from prepserver.models.files import Progress
from prepserver.models.store import ModelStore, detect_kind
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import catalogue, code_of, gguf, hub_entry

GOOD = gguf(b"good")
OTHER = gguf(b"other")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(hub_entry("tiny", GOOD)))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(OTHER)
    return path


def write_model(store: ModelStore, data: bytes) -> Path:
    store.root.mkdir(exist_ok=True)
    path = store.root / "tiny.gguf"
    path.write_bytes(data)
    return path


def test_the_path_of_a_missing_model_raises_with_the_command_that_fetches_it(
    store: ModelStore,
) -> None:
    """Asking for the path of a missing model raises an error that names the command that fetches
    the model."""
    with pytest.raises(ModelNotFound, match="`prep-server models pull tiny`"):
        store.installed_path("tiny")


def test_an_installed_model_is_found_by_name(store: ModelStore) -> None:
    """`installed_path` and `resolve` return the same path for the name of an installed model."""
    path = write_model(store, GOOD)
    assert store.installed_path("tiny") == store.resolve("tiny") == path


def test_a_truncated_model_is_rejected(store: ModelStore) -> None:
    """A file smaller than the catalogue states is rejected, since a truncated model could crash an
    engine."""
    write_model(store, GOOD[:-1])
    with pytest.raises(ModelError, match="truncated") as error:
        store.installed_path("tiny")
    assert code_of(error) == ErrorCode.MODEL_DAMAGED


def test_the_list_holds_the_catalogue_and_the_imported_models(
    store: ModelStore, outside: Path
) -> None:
    """The list of models gives the path of each installed model and puts imported files after the
    models in the catalogue."""
    assert [(model.name, model.path) for model in store.list_models()] == [("tiny", None)]
    path = write_model(store, GOOD)
    store.import_file(outside)
    (store.root / "notes.txt").write_text("not a model")
    assert [(model.name, model.kind, model.path) for model in store.list_models()] == [
        ("tiny", "llm", str(path)),
        ("mine.gguf", "llm", str(store.root / "mine.gguf")),
    ]


def test_a_model_outside_the_store_is_resolved_by_its_path(
    store: ModelStore, outside: Path
) -> None:
    """`resolve` accepts the path of a model file outside the store."""
    assert store.resolve(str(outside)) == outside


def test_resolve_rejects_other_files_and_unknown_names(store: ModelStore, tmp_path: Path) -> None:
    """`resolve` raises different errors for a file of another format, a missing file and an unknown
    name."""
    text = tmp_path / "page.gguf"
    text.write_text("<!DOCTYPE html>")
    with pytest.raises(ModelError, match="web page") as error:
        store.resolve(str(text))
    assert code_of(error) == ErrorCode.MODEL_FORMAT
    with pytest.raises(ModelNotFound, match="no file"):
        store.resolve(str(tmp_path / "nothing.gguf"))
    with pytest.raises(ModelNotFound, match="tiny"):
        store.resolve("tinny")


def test_the_kind_of_a_file_is_detected(tmp_path: Path) -> None:
    """The magic number of a file determines its kind; a file without a known magic number is
    rejected."""
    path = tmp_path / "model"
    path.write_bytes(GOOD)
    assert detect_kind(path) == "llm"
    path.write_bytes(GGML_MAGIC + b"...")
    assert detect_kind(path) == "stt"
    for other in (b"", b"GGU", b"version https://git-lfs"):
        path.write_bytes(other)
        with pytest.raises(ModelError) as error:
            detect_kind(path)
        assert code_of(error) == ErrorCode.MODEL_FORMAT


def test_an_imported_file_is_found_by_its_file_name(store: ModelStore, outside: Path) -> None:
    """`installed_path` and `resolve` find an imported file by its file name, and the original file
    is kept."""
    reports: list[Progress] = []
    name = store.import_file(outside, reports.append)
    assert name == "mine.gguf"
    assert store.installed_path(name) == store.resolve(name) == store.root / "mine.gguf"
    assert store.installed_path(name).read_bytes() == outside.read_bytes() == OTHER
    assert reports[-1] == Progress("mine.gguf", "copying", len(OTHER), len(OTHER))
    store.verify(name)


def test_an_imported_file_may_be_a_model_of_the_catalogue(store: ModelStore, outside: Path) -> None:
    """An imported file with the hash of a catalogue model is installed as that model."""
    outside.write_bytes(GOOD)
    assert store.import_file(outside) == "tiny"
    assert store.installed_path("tiny").read_bytes() == GOOD


def test_an_import_never_overwrites_a_different_file(store: ModelStore, outside: Path) -> None:
    """Importing the same file twice succeeds; importing a different file with the same name raises
    Conflict."""
    store.import_file(outside)
    assert store.import_file(outside) == "mine.gguf"
    outside.write_bytes(gguf(b"changed"))
    with pytest.raises(Conflict, match="Rename") as error:
        store.import_file(outside)
    assert code_of(error) == ErrorCode.MODEL_EXISTS
    assert store.installed_path("mine.gguf").read_bytes() == OTHER


def test_an_import_cannot_replace_a_model_of_the_catalogue(
    store: ModelStore, outside: Path
) -> None:
    """An import is rejected if the file has the file name of a catalogue model but another hash."""
    impostor = outside.rename(outside.with_name("tiny.gguf"))
    with pytest.raises(Conflict) as error:
        store.import_file(impostor)
    assert code_of(error) == ErrorCode.MODEL_EXISTS
    assert not (store.root / "tiny.gguf").exists()


def test_a_failed_import_does_not_create_the_store(store: ModelStore, tmp_path: Path) -> None:
    """Importing a text file, a folder or a missing file fails before the store is created."""
    text = tmp_path / "notes.gguf"
    text.write_text("hello")
    with pytest.raises(ModelError) as error:
        store.import_file(text)
    assert code_of(error) == ErrorCode.MODEL_FORMAT
    for path in (tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(ModelNotFound):
            store.import_file(path)
    assert not store.root.exists()


def test_verify_detects_one_changed_byte(store: ModelStore) -> None:
    """`verify` detects a changed byte in a file of the right size and leaves the file in place."""
    path = write_model(store, GOOD)
    store.verify("tiny")
    path.write_bytes(GOOD[:-1] + b"!")
    with pytest.raises(ModelError, match="`prep-server models pull tiny`") as error:
        store.verify("tiny")
    assert code_of(error) == ErrorCode.MODEL_HASH
    assert path.exists()


def test_a_file_with_a_wrong_hash_is_not_resolved_by_name(store: ModelStore) -> None:
    """Without a matching receipt, a model file with the right size but a wrong hash is resolved
    only by path, not by name."""
    path = write_model(store, GOOD)
    assert store.resolve("tiny") == path
    path.write_bytes(GOOD[:-1] + b"!")
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(ModelError, match="`prep-server models pull tiny`") as error:
            store.resolve("tiny")
        assert code_of(error) == ErrorCode.MODEL_HASH
    assert store.resolve(str(path)) == path


def test_a_model_in_a_read_only_folder_is_resolved(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is resolved even if its receipt cannot be written."""
    path = write_model(store, GOOD)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ModelStore, "_write_receipt", refuse)
    assert store.resolve("tiny") == path


def test_verify_invalidates_the_receipt_of_a_corrupt_file(store: ModelStore) -> None:
    """After a failed verification, a file counts as damaged even if its size and modification time
    match the receipt."""
    path = write_model(store, GOOD)
    (entry,) = store.catalogue.models
    assert store.is_intact(entry)
    times = path.stat()
    path.write_bytes(GOOD[:-1] + b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.is_intact(entry), "a file whose size and time are unchanged is not read again"
    with pytest.raises(ModelError) as error:
        store.verify("tiny")
    assert code_of(error) == ErrorCode.MODEL_HASH
    assert not store.is_intact(entry)


def test_an_intact_file_is_read_once(store: ModelStore) -> None:
    """The second check of an unchanged file uses the receipt instead of reading the file."""
    write_model(store, GOOD)
    (entry,) = store.catalogue.models
    reports: list[Progress] = []
    assert store.is_intact(entry, reports.append)
    assert reports
    reports.clear()
    assert store.is_intact(entry, reports.append)
    assert reports == []


def test_an_invalid_receipt_is_ignored(store: ModelStore) -> None:
    """A model with an invalid receipt is verified by its content."""
    write_model(store, GOOD)
    (store.root / ".tiny.gguf.json").write_bytes(b'{"sha256": 1')
    (entry,) = store.catalogue.models
    assert store.is_intact(entry)


def test_a_store_that_cannot_be_created_is_reported(tmp_path: Path, outside: Path) -> None:
    """Importing a file raises a retryable error with the code `model_disk` if the store's folder
    cannot be created."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(ModelError) as error:
        ModelStore(blocked / "store", catalogue(hub_entry("tiny", GOOD))).import_file(outside)
    assert code_of(error) == ErrorCode.MODEL_DISK
    assert error.value.retryable
