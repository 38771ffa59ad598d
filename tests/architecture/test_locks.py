"""The lock files and the script that updates and checks them."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.architecture.scripts import PACKAGING, load

PROJECT = """[project]
requires-python = ">=3.11"
dependencies = [{base}]
[project.optional-dependencies]
server = [{server}]
dev = [{dev}]
"""


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The lock script, working on a project in `tmp_path` whose lock files are fresh."""
    script = load("lock", monkeypatch)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "LOCKS", tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(base="'a>=1'", server="'b'", dev=""))
    for extra in script.EXTRAS:
        header = script.HEADER.format(script.digest(extra))
        (tmp_path / f"{extra}.txt").write_text(f"{header}a==1\n")
    return script


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("a>=1", "a>=2", ["server", "dev"]),
        ("'a>=1'", "'a>=1', 'c'", ["server", "dev"]),
        ("'a>=1'", "", ["server", "dev"]),
        ("'b'", "'b; python_version < \"3.12\"'", ["server", "dev"]),
        (">=3.11", ">=3.12", ["server", "dev"]),
        ("dev = []", "dev = ['d']", ["dev"]),
        ("[project]", "[tool.other]\nx = 1\n[project]", []),
        ("dev = []", "dev = []\nother = ['e']", []),
    ],
)
def test_a_lock_is_stale_once_its_requirements_change(
    old: str,
    new: str,
    stale: list[str],
    lock: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The check names exactly the lock files whose requirements in pyproject.toml have changed."""
    assert lock.main(["--check"]) == 0
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(old, new))
    assert lock.main(["--check"]) == (1 if stale else 0)
    shown = capsys.readouterr().err
    for extra in lock.EXTRAS:
        assert (f"packaging/locks/{extra}.txt" in shown) == (extra in stale)
    assert ("make lock" in shown) == bool(stale)


def test_a_missing_lock_is_stale(lock: ModuleType, tmp_path: Path) -> None:
    """A lock file that was deleted counts as stale."""
    (tmp_path / "server.txt").unlink()
    assert not lock.fresh("server")
    assert lock.fresh("dev")


def test_the_locks_name_no_index() -> None:
    """The lock files contain versions with hashes, and no address of a package index."""
    for path in (PACKAGING / "locks").glob("*.txt"):
        text = path.read_text("utf-8")
        assert "://" not in text
        assert "--index" not in text
        for line in re.findall(r"^\w.*", text, re.MULTILINE):
            assert re.match(r"[\w.-]+==[\w.+-]+( ; .*)? \\$", line)
