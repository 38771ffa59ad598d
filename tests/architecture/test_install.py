"""The installer of the environment, which `make` runs before prep is installed."""

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.architecture.scripts import PACKAGING, fake_command, load


def test_a_stale_lock_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a lock file is stale, the installer says so and follows pyproject.toml."""
    install = load("install", monkeypatch)
    monkeypatch.setattr(install, "fresh", lambda extra: extra == "server")
    assert [str(part) for part in install._locked(["server"])] == [
        "-r",
        str(PACKAGING / "locks" / "server.txt"),
    ]
    assert install._locked(["server", "dev"]) == []
    assert "make lock" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("with_uv", "failing", "wanted"),
    [
        (True, "none", ["uv", "uv"]),
        (True, "uv", ["uv", "pip", "uv", "pip"]),
        (False, "none", ["pip", "pip"]),
    ],
)
def test_uv_installs_if_it_can(
    with_uv: bool, failing: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The packages are installed with uv if it is on the PATH, and with pip if uv is missing or
    fails."""
    install = load("install", monkeypatch)
    ran, bin_ = tmp_path / "ran", tmp_path / "bin"
    record = f'echo {{0}} >>"{ran}"; [ {failing} != {{0}} ]'
    fake_command(
        bin_, "python", f'case "$*" in *"pip "*" install -v"*) {record.format("pip")} ;; esac'
    )
    if with_uv:
        fake_command(bin_, "uv", f'case "$1" in pip) {record.format("uv")} ;; esac')
    venv = tmp_path / ".venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text("version_info = 3.12.1\n")
    monkeypatch.setenv("PATH", str(bin_))
    monkeypatch.setattr(install, "VENV", venv)
    monkeypatch.setattr(install, "PYTHON", bin_ / "python")
    monkeypatch.setattr(install, "STAMP", venv / "stamp.json")
    monkeypatch.setattr(install, "LOG", venv / "install.log")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert install.set_up(["server"], "", None, folder) == 0
    finally:
        os.close(folder)
    assert ran.read_text().split() == wanted


def test_the_installer_requires_what_pyproject_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer reads the base requirements and the requested extras from pyproject.toml."""
    install = load("install", monkeypatch)
    client, server = install._requirements([]), install._requirements(["server"])
    assert any(line.startswith("httpx") for line in client)
    assert not any(line.startswith(install.COMPILED) for line in client)
    assert [line for line in server if line.startswith(install.COMPILED)] != []
    assert set(client) < set(server)


def test_only_the_pinned_version_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pinned requirement counts as installed only if exactly that version is installed."""
    install = load("install", monkeypatch)
    monkeypatch.setattr(install, "PYTHON", Path(sys.executable))
    assert install._has(f"click=={metadata.version('click')}")
    assert not install._has("click==0.0.1")
    assert not install._has("no-such-package==1")


@pytest.mark.parametrize(
    "names",
    [
        ("llama_cpp_python-0.0.1-py3-none-any.whl",),
        ("llama_cpp_python-{version}-py3-none-macosx_11_0_arm64.whl",),
        ("llama_cpp_python-{version}-cp27-cp27mu-linux_x86_64.whl", "readme.txt"),
        (),
        None,
    ],
)
def test_a_folder_without_a_suitable_wheel_is_explained(
    names: tuple[str, ...] | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If no wheel in the folder suits, the message lists those found and names the command that
    builds one; nothing is compiled or downloaded."""
    install = load("install", monkeypatch)
    wanted = load("llama_build", monkeypatch).requirement()
    version = wanted.partition("==")[2]
    folder = tmp_path / "wheels"
    if names is not None:
        folder.mkdir()
        for name in names:
            (folder / name.format(version=version)).touch()
    venv = tmp_path / ".venv"
    nothing = f'echo "ERROR: No matching distribution found for {wanted}"; exit 1'
    fake_command(
        tmp_path,
        "venv-python",
        f'case "$*" in *no-index*) {nothing} ;; *importlib*) exit 1 ;; esac',
    )
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text("version = 3.11.7\n")
    monkeypatch.setattr(install, "VENV", venv)
    monkeypatch.setattr(install, "PYTHON", tmp_path / "venv-python")
    monkeypatch.setattr(install, "STAMP", venv / "stamp.json")
    monkeypatch.setattr(install, "LOG", venv / "install.log")
    lock = os.open(tmp_path, os.O_RDONLY)
    try:
        assert install.set_up(["server"], "", folder, lock) == 1
    finally:
        os.close(lock)
    shown = capsys.readouterr()
    assert "Compiling" not in shown.out
    assert f"{folder} has no wheel of {wanted}" in shown.err
    assert f"make wheel WHEELS={folder}" in shown.err
    for name in names or ():
        assert (name.format(version=version) in shown.err) == name.endswith(".whl")


def test_an_installation_is_stale_once_pyproject_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An installation is ready if its Python runs and its stamp matches pyproject.toml and includes
    the requested extras."""
    install = load("install", monkeypatch)
    venv = tmp_path / ".venv"
    venv.mkdir()
    fake_command(venv / "bin", "python", "exit 0")
    (venv / "pyvenv.cfg").write_text("version = 3.11.7\n")
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[project]\n")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "VENV", venv)
    monkeypatch.setattr(install, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(install, "STAMP", venv / "stamp.json")
    assert not install.is_ready(["server"])

    install.STAMP.write_text(json.dumps({"key": install._key(), "extras": ["dev", "server"]}))
    assert install.is_ready(["server"])
    assert not install.is_ready(["server", "whispercpp"])

    fake_command(venv / "bin", "python", "exit 127")
    assert not install.is_ready(["server"])
    fake_command(venv / "bin", "python", "exit 0")
    assert install.is_ready(["server"])
    pyproject.write_text("[project]\nname = 'another'\n")
    assert not install.is_ready(["server"])
    install.STAMP.write_text("{")
    assert not install.is_ready(["server"])
