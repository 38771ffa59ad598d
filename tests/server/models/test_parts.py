"""Models in several GGUF files: import, verification, listing and removal."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from prepserver.errors import Conflict, ModelError, ModelNotFound
from prepserver.models.catalogue import GGUF_MAGIC
from prepserver.models.gguf import read_header
from prepserver.models.parts import find_parts, part_names
from prepserver.models.store import ModelStore
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import catalogue, code_of, gguf, gguf_part, hub_entry

NAMES = tuple(f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(hub_entry("tiny", gguf())))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the three files of one model."""
    folder = tmp_path / "download"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(gguf_part(number, 3, data=bytes([number]) * 32))
    return folder


def files_in(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("given", NAMES)
def test_any_part_imports_the_whole_model(store: ModelStore, folder: Path, given: str) -> None:
    """Importing any part copies all parts; the model has the name of its first part and is listed
    once with its whole size."""
    assert store.import_file(folder / given) == NAMES[0]
    assert files_in(store) == list(NAMES)
    imported = [model for model in store.list_models() if model.name != "tiny"]
    size = sum((folder / name).stat().st_size for name in NAMES)
    assert [(model.name, model.size) for model in imported] == [(NAMES[0], size)]
    for name in NAMES:
        assert store.installed_path(name) == store.resolve(name) == store.root / NAMES[0]
        store.verify(name)


@pytest.mark.parametrize("missing", NAMES[1:])
def test_missing_parts_are_named(store: ModelStore, folder: Path, missing: str) -> None:
    """An import without all parts fails with the names of the missing parts and imports nothing."""
    (folder / missing).unlink()
    for path in (folder / NAMES[0], str(folder / NAMES[0])):
        with pytest.raises(ModelError, match=missing) as error:
            store.import_file(path) if isinstance(path, Path) else store.resolve(path)
        assert code_of(error) == ErrorCode.MODEL_PARTS
    assert not store.root.exists()


def test_renamed_parts_are_found_by_their_headers(store: ModelStore, folder: Path) -> None:
    """Renamed parts are ordered by their headers and installed under the names that llama.cpp
    needs. By its path, such a model is refused."""
    for name, new in zip(NAMES, ("c.gguf", "a.gguf", "b.gguf"), strict=True):
        (folder / name).rename(folder / new)
    (folder / "other.gguf").write_bytes(gguf())
    (folder / "broken.gguf").write_bytes(b"not a model")
    (folder / "foreign.gguf").write_bytes(gguf_part(1, 3, tensors=99))
    with pytest.raises(ModelError, match="renamed") as error:
        store.resolve(str(folder / "a.gguf"))
    assert code_of(error) == ErrorCode.MODEL_PARTS
    name = store.import_file(folder / "a.gguf")
    assert name == "c-00001-of-00003.gguf"
    contents = [store.root.joinpath(each).read_bytes() for each in part_names(name)]
    assert contents == [gguf_part(n, 3, data=bytes([n]) * 32) for n in range(3)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda path: path.write_bytes(gguf_part(1, 3, tensors=7)), ErrorCode.MODEL_PARTS),
        (lambda path: path.write_bytes(gguf_part(2, 3)), ErrorCode.MODEL_PARTS),
        (lambda path: path.write_bytes(gguf()), ErrorCode.MODEL_PARTS),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), ErrorCode.MODEL_DAMAGED),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), ErrorCode.MODEL_DAMAGED),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), ErrorCode.MODEL_FORMAT),
    ],
    ids=["other model", "third twice", "unsplit", "last byte", "header", "web page"],
)
def test_a_part_that_does_not_belong_is_refused(
    store: ModelStore, folder: Path, change: Callable[[Path], None], code: ErrorCode
) -> None:
    """A part of another model and a truncated part are refused by their names, whichever part is
    given, and nothing is imported."""
    change(folder / NAMES[1])
    for given in (NAMES[0], NAMES[2]):
        with pytest.raises(ModelError, match=NAMES[1]) as error:
            store.import_file(folder / given)
        assert code_of(error) == code
    assert not store.root.exists()


def test_links_lead_to_the_parts(store: ModelStore, folder: Path, tmp_path: Path) -> None:
    """The parts are found beside a link, as in the cache of the hub, and beside the link's target.
    A link's own name is kept for llama.cpp."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, name in enumerate(NAMES):
        (folder / name).rename(folder / f"blob{number}")
        (cache / name).symlink_to(folder / f"blob{number}")
    assert store.resolve(str(cache / NAMES[1])) == cache / NAMES[0]
    assert store.import_file(cache / NAMES[2]) == NAMES[0]
    for number, name in enumerate(NAMES):
        (folder / f"blob{number}").rename(folder / name)
    (tmp_path / "short.gguf").symlink_to(folder / NAMES[0])
    assert store.resolve(str(tmp_path / "short.gguf")) == folder / NAMES[0]
    assert store.import_file(tmp_path / "short.gguf") == NAMES[0]


def test_two_models_in_one_folder_are_not_mixed(store: ModelStore, folder: Path) -> None:
    """If two renamed files claim the same place in the model, the import asks for a folder of its
    own."""
    (folder / NAMES[0]).rename(folder / "a.gguf")
    (folder / "again.gguf").write_bytes(gguf_part(1, 3))
    with pytest.raises(ModelError, match="folder of their own") as error:
        store.import_file(folder / "a.gguf")
    assert code_of(error) == ErrorCode.MODEL_PARTS


def test_many_missing_parts_are_counted(store: ModelStore, tmp_path: Path) -> None:
    """Of thousands of missing parts, the error names a few."""
    for name in ("huge-00001-of-09999.gguf", "huge.gguf"):
        path = tmp_path / name
        path.write_bytes(gguf_part(0, 9_999))
        with pytest.raises(ModelError, match="and 9995 more") as error:
            store.import_file(path)
        assert len(error.value.message) < 400
        path.unlink()


@pytest.mark.parametrize("lost", NAMES)
def test_verify_misses_a_part(store: ModelStore, folder: Path, lost: str) -> None:
    """If a part is lost in the store, `verify` and `resolve` name it, and the list shows that the
    model is incomplete."""
    store.import_file(folder / NAMES[0])
    (store.root / lost).unlink()
    for call in (store.verify, store.installed_path, store.resolve):
        with pytest.raises(ModelError, match=lost) as error:
            call(NAMES[0])
        assert code_of(error) == ErrorCode.MODEL_PARTS
    (model,) = (each for each in store.list_models() if each.name == NAMES[0])
    assert model.path is None
    assert "2 of 3" in model.about
    assert store.import_file(folder / NAMES[0]) == NAMES[0]
    store.verify(NAMES[0])


@pytest.mark.parametrize("part", NAMES)
def test_verify_detects_a_changed_byte_in_any_part(
    store: ModelStore, folder: Path, part: str
) -> None:
    """A changed byte in any part fails the verification, which names the part."""
    store.import_file(folder / NAMES[0])
    data = store.root.joinpath(part).read_bytes()
    store.root.joinpath(part).write_bytes(data[:-1] + b"!")
    with pytest.raises(ModelError, match=part) as error:
        store.verify(NAMES[0])
    assert code_of(error) == ErrorCode.MODEL_HASH


def test_a_part_never_overwrites_a_different_file(store: ModelStore, folder: Path) -> None:
    """If one part's name belongs to a different file in the store, no part is imported."""
    store.root.mkdir()
    (store.root / NAMES[2]).write_bytes(gguf(b"mine"))
    with pytest.raises(Conflict) as error:
        store.import_file(folder / NAMES[0])
    assert code_of(error) == ErrorCode.MODEL_EXISTS
    assert files_in(store) == [NAMES[2]]


def test_a_joined_model_loses_the_name_of_a_part(store: ModelStore, tmp_path: Path) -> None:
    """A complete model that still has the name of a part is imported under its plain name."""
    joined = tmp_path / "joined-00001-of-00002.gguf"
    joined.write_bytes(gguf())
    store.catalogue = catalogue()
    assert store.import_file(joined) == "joined.gguf"
    assert store.resolve(str(joined)) == joined


def test_remove_removes_all_parts(store: ModelStore, folder: Path) -> None:
    """`remove` deletes all parts and their receipts, even if one part is already lost; a second
    call fails, and other models stay."""
    store.import_file(folder / NAMES[0])
    (store.root / NAMES[1]).unlink()
    (store.root / "mine.gguf").write_bytes(gguf(b"mine"))
    store.remove(NAMES[2])
    left = [path.name for path in store.root.iterdir() if path.is_file()]
    assert left == ["mine.gguf"]
    for name in (NAMES[0], "tiny", "../download/" + NAMES[0], "mine"):
        with pytest.raises(ModelNotFound):
            store.remove(name)
    assert (folder / NAMES[0]).exists()


def header(*pairs: bytes, version: int = 3, count: int | None = None) -> bytes:
    number = len(pairs) if count is None else count
    return GGUF_MAGIC + struct.pack("<IQQ", version, 0, number) + b"".join(pairs)


def pair(key: bytes, value_type: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", value_type) + value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (header(version=1), ErrorCode.MODEL_FORMAT),
        (header(version=3 << 24), ErrorCode.MODEL_FORMAT),
        (header(count=1 << 63), ErrorCode.MODEL_DAMAGED),
        (header(pair(b"x" * 70_000, 4, b"1234")), ErrorCode.MODEL_FORMAT),
        (header(pair(b"x", 77, b"1234")), ErrorCode.MODEL_FORMAT),
        (header(pair(b"x", 9, struct.pack("<IQ", 9, 1))), ErrorCode.MODEL_FORMAT),
        (header(pair(b"x", 9, struct.pack("<IQ", 4, 1 << 60))), ErrorCode.MODEL_FORMAT),
        (header(pair(b"x", 8, struct.pack("<Q", 1 << 40))), ErrorCode.MODEL_DAMAGED),
        (header(pair(b"split.count", 8, struct.pack("<Q", 1) + b"2")), ErrorCode.MODEL_FORMAT),
        (header(pair(b"split.count", 6, struct.pack("<f", float("nan")))), ErrorCode.MODEL_FORMAT),
        (header(pair(b"split.no", 2, struct.pack("<H", 5))), ErrorCode.MODEL_FORMAT),
        (header(pair(b"split.no", 5, struct.pack("<i", -1))), ErrorCode.MODEL_FORMAT),
        (header(pair(b"split.count", 10, struct.pack("<Q", 1 << 50))), ErrorCode.MODEL_FORMAT),
        (header(pair(b"general.alignment", 4, struct.pack("<I", 0))), ErrorCode.MODEL_FORMAT),
    ],
)
def test_a_malformed_header_is_reported(tmp_path: Path, data: bytes, code: ErrorCode) -> None:
    """Impossible numbers in a header raise a ModelError that names the file."""
    path = tmp_path / "odd.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"odd\.gguf") as error:
        find_parts(path)
    assert code_of(error) == code


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    """A file that was cut anywhere is reported as truncated or as no model."""
    whole = gguf_part(0, 2)
    path = tmp_path / "cut.gguf"
    for length in range(4, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError) as error:
            read_header(path)
        assert code_of(error) == ErrorCode.MODEL_DAMAGED
    path.write_bytes(whole)
    assert read_header(path).size == len(whole)
