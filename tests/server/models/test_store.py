"""Where models are kept."""

import os
from pathlib import Path

import pytest

from prepserver.errors import Conflict
from prepserver.models.errors import ModelError, ModelNotFound
from prepserver.models.formats import GGML_MAGIC
from prepserver.models.progress import Progress
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


def put(store: ModelStore, data: bytes) -> Path:
    store.root.mkdir(exist_ok=True)
    path = store.root / "tiny.gguf"
    path.write_bytes(data)
    return path


def test_a_model_that_is_not_here_says_how_to_fetch_it(store: ModelStore) -> None:
    """The error is the command to type."""
    with pytest.raises(ModelNotFound, match="`prep-server models pull tiny`"):
        store.path("tiny")


def test_a_model_that_is_here_has_a_path(store: ModelStore) -> None:
    """By its name, and the same through resolve."""
    path = put(store, GOOD)
    assert store.path("tiny") == store.resolve("tiny") == path


def test_a_model_that_was_cut_short_is_not_given_out(store: ModelStore) -> None:
    """A file of another size than the catalogue's would crash an engine later."""
    put(store, GOOD[:-1])
    with pytest.raises(ModelError, match="cut short") as error:
        store.path("tiny")
    assert code_of(error) == "model_damaged"


def test_the_list_shows_what_is_here(store: ModelStore, outside: Path) -> None:
    """The catalogue's models with or without a path, then what was brought."""
    assert [(model.name, model.path) for model in store.list()] == [("tiny", None)]
    path = put(store, GOOD)
    store.import_(outside)
    (store.root / "notes.txt").write_text("not a model")
    assert [(model.name, model.kind, model.path) for model in store.list()] == [
        ("tiny", "llm", str(path)),
        ("mine.gguf", "llm", str(store.root / "mine.gguf")),
    ]


def test_a_path_anywhere_is_taken(store: ModelStore, outside: Path) -> None:
    """A model need not be in the store."""
    assert store.resolve(str(outside)) == outside


def test_a_path_to_something_else_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """A file that is no model, a file that is not there, and a name that nobody knows."""
    text = tmp_path / "page.gguf"
    text.write_text("<!DOCTYPE html>")
    with pytest.raises(ModelError, match="a web page"):
        store.resolve(str(text))
    with pytest.raises(ModelNotFound, match="There is no file"):
        store.resolve(str(tmp_path / "nothing.gguf"))
    with pytest.raises(ModelNotFound, match="Did you mean tiny"):
        store.resolve("tinny")


def test_the_kinds_of_model_files(tmp_path: Path) -> None:
    """llama.cpp's and whisper.cpp's magic numbers are told apart, all else is refused."""
    path = tmp_path / "model"
    path.write_bytes(GOOD)
    assert detect_kind(path) == "llm"
    path.write_bytes(GGML_MAGIC + b"...")
    assert detect_kind(path) == "stt"
    for other in (b"", b"GGU", b"version https://git-lfs"):
        path.write_bytes(other)
        with pytest.raises(ModelError, match="is not a model"):
            detect_kind(path)


def test_what_is_brought_is_found_by_its_file_name(store: ModelStore, outside: Path) -> None:
    """The name that import gives works with path and resolve, and the original stays."""
    steps: list[Progress] = []
    name = store.import_(outside, steps.append)
    assert name == "mine.gguf"
    assert store.path(name) == store.resolve(name) == store.root / "mine.gguf"
    assert store.path(name).read_bytes() == outside.read_bytes() == OTHER
    assert steps[-1] == Progress("mine.gguf", "copying", len(OTHER), len(OTHER))
    store.verify(name)


def test_what_is_brought_may_be_a_model_of_the_catalogue(store: ModelStore, outside: Path) -> None:
    """A file with the catalogue's hash becomes that model, whatever it was called."""
    outside.write_bytes(GOOD)
    assert store.import_(outside) == "tiny"
    assert store.path("tiny").read_bytes() == GOOD


def test_bringing_overwrites_nothing_else(store: ModelStore, outside: Path) -> None:
    """The same file twice is fine, another of its name is a conflict, and the first stays."""
    store.import_(outside)
    assert store.import_(outside) == "mine.gguf"
    outside.write_bytes(gguf(b"changed"))
    with pytest.raises(Conflict, match="Rename"):
        store.import_(outside)
    assert store.path("mine.gguf").read_bytes() == OTHER


def test_bringing_cannot_pose_as_a_model_of_the_catalogue(store: ModelStore, outside: Path) -> None:
    """A file with the catalogue's file name but another content is refused."""
    impostor = outside.rename(outside.with_name("tiny.gguf"))
    with pytest.raises(Conflict):
        store.import_(impostor)
    assert not (store.root / "tiny.gguf").exists()


def test_bringing_what_is_no_model_leaves_nothing(store: ModelStore, tmp_path: Path) -> None:
    """A text, a folder and nothing at all are refused before the store is touched."""
    text = tmp_path / "notes.gguf"
    text.write_text("hello")
    with pytest.raises(ModelError):
        store.import_(text)
    for path in (tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(ModelNotFound):
            store.import_(path)
    assert not store.root.exists()


def test_verify_notices_one_changed_byte(store: ModelStore) -> None:
    """The size is right and the content is not; the file is left where it is."""
    path = put(store, GOOD)
    store.verify("tiny")
    path.write_bytes(GOOD[:-1] + b"!")
    with pytest.raises(ModelError, match=r"is damaged.*`prep-server models pull tiny`"):
        store.verify("tiny")
    assert path.exists()


def test_a_file_with_another_hash_is_not_started_by_name(store: ModelStore) -> None:
    """A file of the right size that is not the catalogue's is refused, again and again; by its
    path it may be used."""
    path = put(store, GOOD)
    assert store.resolve("tiny") == path
    path.write_bytes(GOOD[:-1] + b"!")
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"is not tiny.*`prep-server models pull tiny`") as got:
            store.resolve("tiny")
        assert got.value.code == ErrorCode.MODEL_HASH
    assert store.resolve(str(path)) == path


def test_a_model_in_a_folder_for_reading_alone(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was found whole cannot be noted there, and need not be."""
    path = put(store, GOOD)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ModelStore, "_write_receipt", refuse)
    assert store.resolve("tiny") == path


def test_damage_found_once_is_not_forgotten(store: ModelStore) -> None:
    """After verify failed, a fetch does not go by the old receipt, even if the time was kept."""
    path = put(store, GOOD)
    (entry,) = store.catalogue.models
    assert store.is_intact(entry)
    times = path.stat()
    path.write_bytes(GOOD[:-1] + b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.is_intact(entry), "the file is not read again while nothing hints at a change"
    with pytest.raises(ModelError):
        store.verify("tiny")
    assert not store.is_intact(entry)


def test_a_whole_file_is_read_once(store: ModelStore) -> None:
    """The second look at an unchanged file of gigabytes costs nothing."""
    put(store, GOOD)
    (entry,) = store.catalogue.models
    steps: list[Progress] = []
    assert store.is_intact(entry, steps.append)
    assert steps
    steps.clear()
    assert store.is_intact(entry, steps.append)
    assert steps == []


def test_a_broken_receipt_is_no_receipt(store: ModelStore) -> None:
    """Whatever is in the file beside the model, the model itself decides."""
    put(store, GOOD)
    (store.root / ".tiny.gguf.json").write_bytes(b'{"sha256": 1')
    (entry,) = store.catalogue.models
    assert store.is_intact(entry)


def test_a_folder_that_cannot_be_made(tmp_path: Path, outside: Path) -> None:
    """Where a file is in the way, the error says what can be done."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(ModelError, match="try again"):
        ModelStore(blocked / "store", catalogue(hub_entry("tiny", GOOD))).import_(outside)
