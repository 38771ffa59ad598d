"""One object's own database: schema, key-value, typed errors."""

from pathlib import Path

import pytest
from msgspec import Struct

from prepserver.errors import StorageError
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode

FIRST = "CREATE TABLE things (name TEXT);"
SECOND = "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 0;"


class Thing(Struct):
    name: str
    sizes: list[int]


def columns(storage: Storage) -> list[str]:
    return [str(row[1]) for row in storage.sql("PRAGMA table_info(things)")]


def test_migrations_run_once_each_and_in_order(tmp_path: Path) -> None:
    """A database of an earlier version gets what it lacks, and keeps its rows."""
    path = tmp_path / "a.sqlite"
    storage = Storage(path, "a", (FIRST,))
    storage.sql("INSERT INTO things VALUES (?)", "cup")
    storage.commit()
    storage.close()
    storage = Storage(path, "a", (FIRST, SECOND))
    assert columns(storage) == ["name", "size"]
    assert storage.sql("SELECT * FROM things") == [("cup", 0)]
    storage.close()
    Storage(path, "a", (FIRST, SECOND)).close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The schema is at one version or at the next, never between."""
    path = tmp_path / "a.sqlite"
    Storage(path, "a", (FIRST,)).close()
    with pytest.raises(StorageError):
        Storage(path, "a", (FIRST, "ALTER TABLE things ADD COLUMN size; SELECT nonsense;"))
    storage = Storage(path, "a", (FIRST,))
    assert columns(storage) == ["name"]
    storage.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older server does not touch what it does not understand, and says what to do."""
    path = tmp_path / "a.sqlite"
    Storage(path, "a", (FIRST, SECOND)).close()
    with pytest.raises(StorageError, match="Upgrade") as caught:
        Storage(path, "a", (FIRST,))
    assert caught.value.code == ErrorCode.SCHEMA_TOO_NEW
    assert not caught.value.retryable
    Storage(path, "a", (FIRST, SECOND)).close()


@pytest.mark.parametrize("content", [b"not a database at all, but some other file " * 100])
def test_a_file_that_is_no_database_is_a_typed_error(tmp_path: Path, content: bytes) -> None:
    """The error names the file and leaves it as it is."""
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"a\.sqlite"):
        Storage(path, "a", (FIRST,))
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    """A file in the place of a folder is told in a sentence."""
    (tmp_path / "objects").write_text("")
    with pytest.raises(StorageError):
        Storage(tmp_path / "objects" / "a.sqlite", "a", ())


def test_values_come_back_as_their_type(tmp_path: Path) -> None:
    """Key-value pairs are encoded, replaced and deleted."""
    storage = Storage(tmp_path / "a.sqlite", "a", ())
    assert storage.get("thing", Thing) is None
    storage.put("thing", Thing("cup", [1]))
    storage.put("thing", Thing("jug", [1, 2]))
    assert storage.get("thing", Thing) == Thing("jug", [1, 2])
    storage.delete("thing")
    assert storage.get("thing", Thing) is None
    storage.close()


def test_only_a_transaction_that_changed_something_counts_as_written(tmp_path: Path) -> None:
    """Reading costs no commit."""
    storage = Storage(tmp_path / "a.sqlite", "a", (FIRST,))
    storage.sql("SELECT * FROM things")
    assert not storage.wrote
    storage.sql("INSERT INTO things VALUES ('cup')")
    assert storage.wrote
    storage.rollback()
    storage.rollback()
    assert storage.row("SELECT * FROM things") is None
    storage.close()


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """Acknowledged means durable: the journal is synchronised at every commit."""
    storage = Storage(tmp_path / "a.sqlite", "a", ())
    assert storage.row("PRAGMA synchronous") == (2,)
    assert storage.row("PRAGMA journal_mode") == ("wal",)
    storage.close()


def test_a_database_that_nothing_was_stored_in_leaves_no_file(tmp_path: Path) -> None:
    """Reading is not storing, nor is what was taken back."""
    path = tmp_path / "a.sqlite"
    storage = Storage(path, "a", (FIRST,))
    assert storage.sql("SELECT * FROM things") == []
    storage.commit()
    storage.put("key", 1)
    storage.rollback()
    storage.release()
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_something_was_stored_in_stays(tmp_path: Path) -> None:
    """Also when nothing is left of it, and when it is opened again only to be read."""
    path = tmp_path / "a.sqlite"
    storage = Storage(path, "a", (FIRST,))
    storage.put("key", 1)
    storage.commit()
    storage.release()
    storage = Storage(path, "a", (FIRST, SECOND))
    assert storage.get("key", int) == 1
    storage.release()
    assert [each.name for each in tmp_path.iterdir()] == ["a.sqlite"]
