"""The scripts of the packaging folder, and stand-ins for the commands that they run."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.architecture import sources

PACKAGING = sources.ROOT / "packaging"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script from the packaging folder, which is not a package, and return its module."""
    monkeypatch.syspath_prepend(PACKAGING)
    spec = importlib.util.spec_from_file_location(name, PACKAGING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_command(folder: Path, name: str, code: str) -> None:
    """Write `code` to an executable shell script called `name` in `folder`."""
    folder.mkdir(exist_ok=True)
    command = folder / name
    command.write_text(f"#!/bin/sh\n{code}\n")
    command.chmod(0o755)
