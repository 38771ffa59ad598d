"""Drafts on disk."""

import os
from pathlib import Path

import pytest

from prepcli.drafts import Draft, DraftStore


def test_draft_outlives_the_store(tmp_path: Path) -> None:
    """A saved draft is read by another store, and only its owner can read the file."""
    draft = Draft(text="an\nanswer \u2028 \0", sent="sent", fields={"role": "SRE"})
    assert DraftStore(tmp_path / "drafts").save("one", draft) == ""
    assert DraftStore(tmp_path / "drafts").load("one") == draft
    [file] = (tmp_path / "drafts").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../../etc", ".", "..", "a/b", "x" * 5000, "new interview"])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    """Any name gives a file in the folder."""
    store = DraftStore(tmp_path / "drafts")
    assert store.save(name, Draft(text="kept")) == ""
    assert DraftStore(tmp_path / "drafts").load(name) == Draft(text="kept")
    assert len(list((tmp_path / "drafts").iterdir())) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["drafts"]


@pytest.mark.parametrize("draft", [Draft(), Draft(text=" \n"), Draft(fields={"role": ""})])
def test_empty_draft_is_removed(tmp_path: Path, draft: Draft) -> None:
    """Saving a draft without text removes the file, also if there is none."""
    store = DraftStore(tmp_path)
    store.save("one", Draft(text="text"))
    for _ in range(2):
        assert store.save("one", draft) == ""
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b'{"text":7}', b'{"text":"tru'])
def test_damaged_file_is_an_empty_draft(tmp_path: Path, data: bytes) -> None:
    """A damaged file counts as no draft and is replaced by the next one."""
    (tmp_path / "one.json").write_bytes(data)
    store = DraftStore(tmp_path)
    assert store.load("one") == Draft()
    assert store.save("one", Draft(text="text")) == ""
    assert store.load("one") == Draft(text="text")


def test_unwritable_draft_stays_in_memory(tmp_path: Path) -> None:
    """If the file cannot be written, the reason is returned and the store keeps the draft."""
    folder = tmp_path / "drafts"
    folder.write_text("not a folder")
    store = DraftStore(folder)
    assert store.save("one", Draft(text="text")) in (os.strerror(17), os.strerror(20))
    assert store.load("one") == Draft(text="text")
    folder.unlink()
    assert store.save("one", Draft(text="more")) == ""
    assert DraftStore(folder).load("one") == Draft(text="more")
