"""Storage of offloaded conversations in files that are either intact or deleted."""

import os
import random
import stat
from pathlib import Path

import pytest

from prepserver.engines.llama.kv_store import (
    LEGACY_FOLDER,
    SAMPLE_BYTES,
    KvStore,
    StoredKv,
    model_identity,
)

TOKENS = list(range(500))
STATE = bytes(range(256)) * 40
LIMIT = 1_000_000


def open_store(folder: Path, *, identity: str = "model", limit: int = LIMIT) -> KvStore:
    return KvStore(folder, identity, limit)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_saved_conversation_can_be_loaded(tmp_path: Path) -> None:
    """A reopened store can load a saved conversation any number of times."""
    assert open_store(tmp_path).save("a", TOKENS, STATE)
    reopened = open_store(tmp_path)
    assert reopened.stored_tokens("a") == TOKENS
    assert reopened.load("a") == reopened.load("a") == StoredKv(TOKENS, STATE)
    assert reopened.stored_tokens("b") == []
    assert reopened.load("b") is None


def test_saving_replaces_the_previous_state(tmp_path: Path) -> None:
    """Saving a conversation again replaces its previous state, and the conversation still has one
    file."""
    store = open_store(tmp_path)
    store.save("a", TOKENS, STATE)
    store.save("a", [1, 2, 3], b"other")
    assert store.load("a") == StoredKv([1, 2, 3], b"other")
    assert store.count == len(files(tmp_path)) == 1


def test_the_tokens_of_a_long_conversation_are_read(tmp_path: Path) -> None:
    """All tokens of a conversation with 200,000 tokens can be read."""
    tokens = list(range(200_000))
    open_store(tmp_path, limit=10_000_000).save("a", tokens, STATE)
    assert open_store(tmp_path, limit=10_000_000).stored_tokens("a") == tokens


def test_conversation_names_do_not_become_paths(tmp_path: Path) -> None:
    """A conversation of any name is stored inside the store's folder, in a file whose name is a
    hash."""
    folder = tmp_path / "kv"
    store = open_store(folder)
    for name in ("../../escape", "/etc/passwd", "a" * 5_000, "\0", "größe"):
        assert store.save(name, TOKENS, STATE)
        assert store.load(name) == StoredKv(TOKENS, STATE)
    assert files(tmp_path) == [folder]
    assert all(len(path.stem) == 64 for path in files(folder))


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """Offloaded conversations are stored in files of mode 0600 in a folder of mode 0700."""
    folder = tmp_path / "kv"
    open_store(folder).save("a", TOKENS, STATE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files(folder)[0].stat().st_mode) == 0o600


def test_a_deleted_conversation_leaves_no_file(tmp_path: Path) -> None:
    """A deleted conversation leaves no file, and a second deletion has no effect."""
    store = open_store(tmp_path)
    store.save("a", TOKENS, STATE)
    store.delete("a")
    store.delete("a")
    assert files(tmp_path) == []
    assert store.load("a") is None
    assert (store.count, store.size) == (0, 0)


def test_states_of_another_model_are_deleted(tmp_path: Path) -> None:
    """A state saved for another model is not used, and is deleted when its conversation is
    requested."""
    open_store(tmp_path, identity="one").save("a", TOKENS, STATE)
    open_store(tmp_path, identity="one").save("b", TOKENS, STATE)
    other = open_store(tmp_path, identity="other")
    assert other.stored_tokens("a") == []
    assert other.load("b") is None
    assert files(tmp_path) == []


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_deleted(tmp_path: Path, seed: int) -> None:
    """A file that is truncated or has a flipped bit, at any position, is not loaded and is
    deleted."""
    open_store(tmp_path).save("a", TOKENS, STATE)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    offset = rng.randrange(len(data))
    if seed % 2:
        data[offset] ^= 1 << rng.randrange(8)
    else:
        del data[offset:]
    path.write_bytes(data)
    store = open_store(tmp_path)
    store.stored_tokens("a")
    assert store.load("a") is None
    assert files(tmp_path) == []


def test_the_least_recently_used_files_are_evicted(tmp_path: Path) -> None:
    """The least recently used files are deleted to keep the folder within its limit, even if a
    store is opened with a smaller limit than before."""
    limit = 3 * (len(STATE) + 4 * len(TOKENS) + 200)
    store = open_store(tmp_path, limit=limit)
    for name in "abc":
        store.save(name, TOKENS, STATE)
    store.load("a")
    store.save("d", TOKENS, STATE)
    assert store.load("b") is None
    assert store.load("a") is not None
    assert store.size == sum(path.stat().st_size for path in files(tmp_path)) <= limit
    for age, path in enumerate(files(tmp_path)):
        os.utime(path, (age, age))
    newest = files(tmp_path)[-1]
    assert open_store(tmp_path, limit=limit // 3).count == 1
    assert files(tmp_path) == [newest]


def test_a_state_larger_than_the_limit_is_not_saved(tmp_path: Path) -> None:
    """A state larger than the limit is not saved and evicts no file."""
    store = open_store(tmp_path, limit=2 * len(STATE))
    store.save("a", TOKENS, STATE)
    assert not store.save("b", TOKENS, STATE * 2)
    assert store.load("a") is not None


def test_temporary_files_of_a_crash_are_deleted(tmp_path: Path) -> None:
    """Opening a store deletes the incomplete files that a crash has left."""
    (tmp_path / "abc.new").write_bytes(b"half")
    assert open_store(tmp_path).count == 0
    assert files(tmp_path) == []


def test_a_failing_disk_disables_saving_without_an_error(tmp_path: Path) -> None:
    """If its folder cannot be created, a store saves nothing and raises no error."""
    (tmp_path / "file").write_bytes(b"")
    store = open_store(tmp_path / "file" / "kv")
    assert not store.save("a", TOKENS, STATE)
    assert store.load("a") is None
    store.delete("a")


def test_nothing_is_saved_without_a_folder_or_a_name(tmp_path: Path) -> None:
    """A store without a folder saves nothing, and a state without a conversation is not saved."""
    assert not KvStore(None, "model", LIMIT).save("a", TOKENS, STATE)
    assert not open_store(tmp_path).save("", TOKENS, STATE)
    assert files(tmp_path) == []


def test_the_legacy_folder_is_renamed(tmp_path: Path) -> None:
    """Opening a store renames the folder of an earlier version, and the conversations in that
    folder can be loaded."""
    open_store(tmp_path / "old").save("a", TOKENS, STATE)
    (tmp_path / "old").rename(tmp_path / LEGACY_FOLDER)
    store = open_store(tmp_path / "kv")
    assert store.load("a") == StoredKv(TOKENS, STATE)
    assert files(tmp_path) == [tmp_path / "kv"]


def test_a_second_legacy_folder_is_deleted(tmp_path: Path) -> None:
    """If the legacy folder and the new folder both exist, opening the store deletes the legacy
    folder."""
    open_store(tmp_path / "kv").save("a", TOKENS, STATE)
    open_store(tmp_path / "old").save("b", TOKENS, STATE)
    (tmp_path / "old").rename(tmp_path / LEGACY_FOLDER)
    store = open_store(tmp_path / "kv")
    assert (store.count, store.load("a")) == (1, StoredKv(TOKENS, STATE))
    assert files(tmp_path) == [tmp_path / "kv"]


def test_the_identity_distinguishes_models(tmp_path: Path) -> None:
    """A model's identity depends on the first MiB, the last MiB and the modification time of the
    model file, and on the other parts that are passed."""
    path = tmp_path / "model.gguf"
    data = bytearray(os.urandom(3 * SAMPLE_BYTES))
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    first = model_identity(path, "build")
    assert model_identity(path, "build") == first
    assert model_identity(path, "other build") != first
    identities = {first}
    for offset in (0, len(data) - 1):
        data[offset] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
        identities.add(model_identity(path, "build"))
    os.utime(path, ns=(2, 2))
    identities.add(model_identity(path, "build"))
    assert len(identities) == 4
