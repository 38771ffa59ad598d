"""The scripts that `make` runs before prep is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import sources
from tests.architecture.scripts import PACKAGING, fake_command, load


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


def test_uv_replaces_the_venv_module(tmp_path: Path) -> None:
    """A Python without venv is suitable if uv is installed."""
    fake_command(tmp_path / "bin", "python3", WITHOUT_VENV)
    fake_command(tmp_path / "bin", "uv", "exit 0")
    assert find_python(tmp_path / "bin").stdout.strip() == "python3"


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
