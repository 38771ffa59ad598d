"""An object's own database: schema migrations, key-value pairs, and typed errors."""

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


def create(path: Path, *migrations: str) -> None:
    """Create a database with one row, since an empty database is removed when it is closed."""
    storage = Storage(path, "a", migrations)
    storage.sql("INSERT INTO things (name) VALUES (?)", "cup")
    storage.commit()
    storage.close()


def test_migrations_run_once_each_and_in_order(tmp_path: Path) -> None:
    """Opening a database of an earlier version runs the missing migrations and keeps the rows."""
    path = tmp_path / "a.sqlite"
    create(path, FIRST)
    storage = Storage(path, "a", (FIRST, SECOND))
    assert columns(storage) == ["name", "size"]
    assert storage.sql("SELECT * FROM things") == [("cup", 0)]
    storage.close()
    Storage(path, "a", (FIRST, SECOND)).close()


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    """When a migration fails, the schema stays at the earlier version."""
    path = tmp_path / "a.sqlite"
    create(path, FIRST)
    with pytest.raises(StorageError):
        Storage(path, "a", (FIRST, "ALTER TABLE things ADD COLUMN size; SELECT nonsense;"))
    storage = Storage(path, "a", (FIRST,))
    assert columns(storage) == ["name"]
    storage.close()


def test_a_newer_schema_is_rejected(tmp_path: Path) -> None:
    """Opening a database with a newer schema raises `schema_too_new` and leaves the database
    unchanged."""
    path = tmp_path / "a.sqlite"
    create(path, FIRST, SECOND)
    with pytest.raises(StorageError, match="Upgrade") as caught:
        Storage(path, "a", (FIRST,))
    assert caught.value.code == ErrorCode.SCHEMA_TOO_NEW
    assert not caught.value.retryable
    Storage(path, "a", (FIRST, SECOND)).close()


@pytest.mark.parametrize("content", [b"not a database at all, but some other file " * 100])
def test_a_file_that_is_not_a_database_raises_a_typed_error(tmp_path: Path, content: bytes) -> None:
    """Opening a file that is not a database leaves the file unchanged and raises an error that
    names the file."""
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"a\.sqlite"):
        Storage(path, "a", (FIRST,))
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_created_raises_a_typed_error(tmp_path: Path) -> None:
    """Opening a database raises StorageError if a file exists at the path of the database's
    folder."""
    (tmp_path / "objects").write_text("")
    with pytest.raises(StorageError):
        Storage(tmp_path / "objects" / "a.sqlite", "a", ())


def test_key_value_pairs_keep_their_type(tmp_path: Path) -> None:
    """Values in the key-value store keep their type and can be replaced and deleted."""
    storage = Storage(tmp_path / "a.sqlite", "a", ())
    assert storage.get("thing", Thing) is None
    storage.put("thing", Thing("cup", [1]))
    storage.put("thing", Thing("jug", [1, 2]))
    assert storage.get("thing", Thing) == Thing("jug", [1, 2])
    storage.delete("thing")
    assert storage.get("thing", Thing) is None
    storage.close()


def test_only_a_transaction_that_changed_something_has_writes(tmp_path: Path) -> None:
    """`has_writes` is True only if the current transaction has written to the database."""
    storage = Storage(tmp_path / "a.sqlite", "a", (FIRST,))
    storage.sql("SELECT * FROM things")
    assert not storage.has_writes
    storage.sql("INSERT INTO things VALUES ('cup')")
    assert storage.has_writes
    storage.rollback()
    storage.rollback()
    assert storage.row("SELECT * FROM things") is None
    storage.close()


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """Databases are in WAL mode with synchronous=FULL, which syncs the journal at each commit."""
    storage = Storage(tmp_path / "a.sqlite", "a", ())
    assert storage.row("PRAGMA synchronous") == (2,)
    assert storage.row("PRAGMA journal_mode") == ("wal",)
    storage.close()


def test_a_database_without_writes_leaves_no_file(tmp_path: Path) -> None:
    """Closing a new database removes its file if no write has been committed."""
    path = tmp_path / "a.sqlite"
    storage = Storage(path, "a", (FIRST,))
    assert storage.sql("SELECT * FROM things") == []
    storage.commit()
    storage.put("key", 1)
    storage.rollback()
    storage.close()
    assert list(tmp_path.iterdir()) == []


def test_a_database_with_writes_stays(tmp_path: Path) -> None:
    """Closing a database keeps its file if an earlier session has stored something."""
    path = tmp_path / "a.sqlite"
    storage = Storage(path, "a", (FIRST,))
    storage.put("key", 1)
    storage.commit()
    storage.close()
    storage = Storage(path, "a", (FIRST, SECOND))
    assert storage.get("key", int) == 1
    storage.close()
    assert [each.name for each in tmp_path.iterdir()] == ["a.sqlite"]
