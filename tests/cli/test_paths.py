"""Locations of the client's settings and data."""

import os
from pathlib import Path

import pytest

from prepcli import paths
from prepcli.errors import SettingsError

FOLDERS = {"PREP_DATA_DIR": paths.data_dir, "PREP_CONFIG_DIR": paths.config_dir}


@pytest.mark.parametrize("variable", FOLDERS)
@pytest.mark.parametrize(
    ("text", "below"),
    [
        ("~/x", "x"),
        (" ~/x\n", "x"),
        ("~", ""),
        ("x", "x"),
        ("./x/../y", "x/../y"),
        ("~/x y", "x y"),
    ],
)
def test_folders_in_variables_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, below: str
) -> None:
    """`~` and relative paths in PREP_DATA_DIR and PREP_CONFIG_DIR become absolute paths."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, text)
    monkeypatch.chdir(tmp_path)
    assert FOLDERS[variable]() == tmp_path / below


@pytest.mark.parametrize("variable", FOLDERS)
@pytest.mark.parametrize(
    "value", [b"$HOME/x", b"${HOME}/x", b'"/x"', b"'/x'", b"~no-such-user/x", b"/r\xe9ponse"]
)
def test_unusable_folders_in_variables_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: bytes
) -> None:
    """A value that no shell has expanded, an unknown user and a name that is not UTF-8 raise an
    error that names the variable."""
    monkeypatch.setenv(variable, os.fsdecode(value))
    with pytest.raises(SettingsError, match=variable):
        FOLDERS[variable]()


@pytest.mark.parametrize("variable", FOLDERS)
@pytest.mark.parametrize("value", ["", "  "])
def test_empty_variables_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """An empty variable leaves the platform's default."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    assert FOLDERS[variable]().name == "prep"


@pytest.mark.parametrize("variable", FOLDERS)
def test_a_user_without_a_home_directory(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Without a home directory, the error names the variable that chooses a folder."""
    monkeypatch.delenv(variable, raising=False)
    for kind in ("data", "config"):
        monkeypatch.setattr(f"platformdirs.user_{kind}_path", lambda name: Path("~/.x") / name)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", _unknown_user)
    with pytest.raises(SettingsError, match=variable):
        FOLDERS[variable]()


def _unknown_user(uid: int) -> None:
    raise KeyError(uid)
