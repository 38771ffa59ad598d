"""Conversations on disk are right or gone."""

import os
import random
import stat
from pathlib import Path

import pytest

from prepserver.engines.llama.kv_store import SAMPLE, KvStore, StoredKv, identity

TOKENS = list(range(500))
STATE = bytes(range(256)) * 40
LIMIT = 1_000_000


def opened(folder: Path, *, model: str = "model", limit: int = LIMIT) -> KvStore:
    return KvStore(folder, model, limit)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_what_was_parked_comes_back(tmp_path: Path) -> None:
    """Also in another process, and as often as it is asked for."""
    assert opened(tmp_path).save("a", TOKENS, STATE)
    later = opened(tmp_path)
    assert later.tokens("a") == TOKENS
    assert later.load("a") == later.load("a") == StoredKv(TOKENS, STATE)
    assert later.tokens("b") == []
    assert later.load("b") is None


def test_the_last_one_counts(tmp_path: Path) -> None:
    """A conversation has one file."""
    parked = opened(tmp_path)
    parked.save("a", TOKENS, STATE)
    parked.save("a", [1, 2, 3], b"other")
    assert parked.load("a") == StoredKv([1, 2, 3], b"other")
    assert parked.count == len(files(tmp_path)) == 1


def test_a_long_conversation_is_no_special_case(tmp_path: Path) -> None:
    """Its tokens are read without its state, however many there are."""
    tokens = list(range(200_000))
    opened(tmp_path, limit=10_000_000).save("a", tokens, STATE)
    assert opened(tmp_path, limit=10_000_000).tokens("a") == tokens


def test_names_do_not_become_paths(tmp_path: Path) -> None:
    """Whatever a conversation is called, its file is in the folder and does not name it."""
    folder = tmp_path / "parked"
    parked = opened(folder)
    for name in ("../../escape", "/etc/passwd", "a" * 5_000, "\0", "größe"):
        assert parked.save(name, TOKENS, STATE)
        assert parked.load(name) == StoredKv(TOKENS, STATE)
    assert files(tmp_path) == [folder]
    assert all(len(path.stem) == 64 for path in files(folder))


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    """It is what a candidate said."""
    folder = tmp_path / "parked"
    opened(folder).save("a", TOKENS, STATE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files(folder)[0].stat().st_mode) == 0o600


def test_a_forgotten_conversation_leaves_nothing(tmp_path: Path) -> None:
    """Nothing at all is in the folder then; and forgetting it twice does no harm."""
    parked = opened(tmp_path)
    parked.save("a", TOKENS, STATE)
    parked.forget("a")
    parked.forget("a")
    assert files(tmp_path) == []
    assert parked.load("a") is None
    assert (parked.count, parked.size) == (0, 0)


def test_another_model_finds_nothing_and_removes_it(tmp_path: Path) -> None:
    """What another model, build or type of cache computed is not believed."""
    opened(tmp_path, model="one").save("a", TOKENS, STATE)
    opened(tmp_path, model="one").save("b", TOKENS, STATE)
    other = opened(tmp_path, model="other")
    assert other.tokens("a") == []
    assert other.load("b") is None
    assert files(tmp_path) == []


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_removed(tmp_path: Path, seed: int) -> None:
    """One changed bit, or an end cut off, anywhere: never believed, and gone afterwards."""
    opened(tmp_path).save("a", TOKENS, STATE)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    dice = random.Random(seed)
    at = dice.randrange(len(data))
    if seed % 2:
        data[at] ^= 1 << dice.randrange(8)
    else:
        del data[at:]
    path.write_bytes(data)
    parked = opened(tmp_path)
    parked.tokens("a")
    assert parked.load("a") is None
    assert files(tmp_path) == []


def test_the_longest_unused_make_room(tmp_path: Path) -> None:
    """The folder stays within its limit, also when it is opened with a smaller one."""
    room = 3 * (len(STATE) + 4 * len(TOKENS) + 200)
    parked = opened(tmp_path, limit=room)
    for name in "abc":
        parked.save(name, TOKENS, STATE)
    parked.load("a")
    parked.save("d", TOKENS, STATE)
    assert parked.load("b") is None
    assert parked.load("a") is not None
    assert parked.size == sum(path.stat().st_size for path in files(tmp_path)) <= room
    for age, path in enumerate(files(tmp_path)):
        os.utime(path, (age, age))
    newest = files(tmp_path)[-1]
    assert opened(tmp_path, limit=room // 3).count == 1
    assert files(tmp_path) == [newest]


def test_what_is_larger_than_the_limit_is_not_parked(tmp_path: Path) -> None:
    """Nor is anything removed for it."""
    parked = opened(tmp_path, limit=2 * len(STATE))
    parked.save("a", TOKENS, STATE)
    assert not parked.save("b", TOKENS, STATE * 2)
    assert parked.load("a") is not None


def test_half_a_file_of_a_dead_process_is_cleared_away(tmp_path: Path) -> None:
    """Names appear by renaming only."""
    (tmp_path / "abc.new").write_bytes(b"half")
    assert opened(tmp_path).count == 0
    assert files(tmp_path) == []


def test_a_disk_that_refuses_costs_only_the_parking(tmp_path: Path) -> None:
    """A folder that cannot be written to, or is none, parks nothing and raises nothing."""
    (tmp_path / "file").write_bytes(b"")
    parked = opened(tmp_path / "file" / "parked")
    assert not parked.save("a", TOKENS, STATE)
    assert parked.load("a") is None
    parked.forget("a")


def test_nothing_is_parked_without_a_folder_or_a_name(tmp_path: Path) -> None:
    """A prompt of no conversation is not kept."""
    assert not KvStore(None, "model", LIMIT).save("a", TOKENS, STATE)
    assert not opened(tmp_path).save("", TOKENS, STATE)
    assert files(tmp_path) == []


def test_the_identity_tells_models_apart(tmp_path: Path) -> None:
    """By either end of the file, its size and time, and what else the state depends on."""
    path = tmp_path / "model.gguf"
    data = bytearray(os.urandom(3 * SAMPLE))
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    first = identity(path, "build")
    assert identity(path, "build") == first
    assert identity(path, "other build") != first
    found = {first}
    for change in (0, len(data) - 1):
        data[change] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
        found.add(identity(path, "build"))
    os.utime(path, ns=(2, 2))
    found.add(identity(path, "build"))
    assert len(found) == 4
