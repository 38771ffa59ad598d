import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepcli.local_server.stale_server import stop_stale_server


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """Yield a waiting process that has `a-marker` among its arguments."""
    script = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "a-marker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def test_process_with_the_marker_is_stopped(
    tmp_path: Path, process: "subprocess.Popen[bytes]"
) -> None:
    """The process in the PID file is terminated if its command line contains the marker."""
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    assert stop_stale_server(file, "a-marker")
    assert process.wait(10) != 0


def test_process_without_the_marker_is_not_stopped(
    tmp_path: Path, process: "subprocess.Popen[bytes]"
) -> None:
    """The process in the PID file is not terminated if its command line lacks the marker."""
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    assert not stop_stale_server(file, "another-marker")
    assert process.poll() is None


@pytest.mark.parametrize("text", [None, "", "pid", "0", "-1", "1"])
def test_invalid_pid_file_is_ignored(tmp_path: Path, text: str | None) -> None:
    """A PID file that is missing or contains no process id greater than 1 is ignored."""
    file = tmp_path / "pid"
    if text is not None:
        file.write_text(text)
    assert not stop_stale_server(file, "")
