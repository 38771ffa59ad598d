"""The scripts that `make` runs before prep is installed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

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


def find_python(*folders: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `find-python` with `environment` and with only `folders` on the PATH."""
    path = os.pathsep.join(str(folder) for folder in folders)
    return subprocess.run(
        ["/bin/sh", str(PACKAGING / "find-python")],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


OLD = 'case "$2" in *print*) echo 3.9 ;; *sys*) exit 1 ;; esac'
WITHOUT_VENV = 'case "$2" in *print*) echo 3.12 ;; *venv*) exit 1 ;; esac'
REAL = f'exec "{sys.executable}" "$@"'


def test_a_newer_python_is_found_beside_an_old_one(tmp_path: Path) -> None:
    """When `python3` is too old, `find-python` selects a newer Python if one is installed."""
    fake_command(tmp_path / "bin", "python3", OLD)
    fake_command(tmp_path / "bin", "python3.12", REAL)
    assert find_python(tmp_path / "bin").stdout.strip() == "python3.12"


def test_a_shim_that_does_not_run_is_skipped(tmp_path: Path) -> None:
    """`find-python` skips a version manager's shim for a Python that is not installed."""
    fake_command(tmp_path / "bin", "python3", "echo 'not installed' >&2; exit 127")
    fake_command(tmp_path / "bin", "python3.11", REAL)
    assert find_python(tmp_path / "bin").stdout.strip() == "python3.11"


def test_an_explicit_python_comes_first(tmp_path: Path) -> None:
    """A suitable Python named by `make PYTHON=...` takes precedence over `python3`."""
    fake_command(tmp_path / "bin", "python3", REAL)
    fake_command(tmp_path / "bin", "mine", REAL)
    assert find_python(tmp_path / "bin", PYTHON="mine").stdout.strip() == "mine"


@pytest.mark.parametrize(("code", "wanted"), [(OLD, "3.9"), (WITHOUT_VENV, "python3-venv")])
def test_an_unsuitable_python_is_explained(tmp_path: Path, code: str, wanted: str) -> None:
    """When no Python is suitable, the message gives the problem of each Python and the versions
    that prep needs."""
    fake_command(tmp_path / "bin", "python3", code)
    done = find_python(tmp_path / "bin")
    assert done.returncode == 1
    assert wanted in done.stderr
    assert "3.11" in done.stderr


def test_progress_in_a_log_is_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress is written to a log every half minute, not for each compiled file."""
    now = 0.0
    progress = load("progress", monkeypatch).Progress(live=False, now=lambda: now)
    progress.read("  Building wheel for llama-cpp-python (pyproject.toml): started\n")
    for step in range(140):
        now += 3.0
        progress.read(f"  [{step + 1}/140] Building CXX object some.cpp.o\n")
        progress.tick()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[0:00] building llama-cpp-python"
    assert lines[1] == "[0:30] building llama-cpp-python 10/140"
    assert lines[-1] == "[7:00] building llama-cpp-python 140/140"
    assert len(lines) == 15


def test_progress_on_a_terminal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress on a terminal is shown on a single line, which is cleared at the end."""
    now = 0.0
    progress = load("progress", monkeypatch).Progress(live=True, now=lambda: now)
    for line in ("Collecting httpx>=0.28\n", "  Downloading apsw-3.54.whl (3.7 MB)\n"):
        now += 1.0
        progress.read(line)
        progress.tick()
    progress.end()
    shown = capsys.readouterr().out
    assert "\n" not in shown
    assert "downloading apsw-3.54.whl (3.7 MB)" in shown
    assert shown.endswith("\r\x1b[K")


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


def test_jobs_are_followed_until_the_awaited_ones_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`follow` shows the progress of all jobs until the awaited jobs end, then returns the highest
    exit code among the awaited jobs."""
    progress = load("progress", monkeypatch)

    def start(code: str) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return progress.Job(process, tmp_path / "log")

    shown = progress.Progress(live=False)
    build = start("print('[7/9] Building', flush=True); import time; time.sleep(100)")
    install = start("print('Collecting x')")
    try:
        build.lines.put(build.lines.get(timeout=30))  # the build has printed its line
        assert progress.follow([build, install], [install], shown) == 0
        assert progress.follow([build], [start("raise SystemExit(3)")], shown) == 3
    finally:
        build.process.kill()
    build.wait()
    assert (shown.stage, shown.step) == ("collecting x", "7/9")
    assert "Collecting x" in (tmp_path / "log").read_text()


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


@pytest.mark.parametrize(
    ("failing", "code"), [("none", 0), ("test", 1), ("lint", 1), ("test|lint", 1)]
)
def test_the_gate_runs_both_parts_and_fails_with_either(
    tmp_path: Path, failing: str, code: int
) -> None:
    """The CI script runs the tests even if lint fails; a failure of either gives exit code 1."""
    ran = tmp_path / "ran"
    fake_command(tmp_path, "make", f'echo "$1" >>"{ran}"; case "$1" in {failing}) exit 2 ;; esac')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sources.ROOT / ".ci" / "run"], env=os.environ | {"PATH": path}, cwd=tmp_path, timeout=60
    )
    assert done.returncode == code
    assert ran.read_text().split() == ["lint", "test"]


def test_plain_make_lists_the_targets() -> None:
    """`make` without a target lists the targets with their descriptions."""
    done = subprocess.run(
        ["make"], cwd=sources.ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    shown = set(re.findall(r"^ +make (\S+) +\S", done.stdout, re.MULTILINE))
    assert {"run", "test", "setup", "demo", "lint", "check", "models", "docs", "clean"} <= shown
