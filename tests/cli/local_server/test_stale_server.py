import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepcli.local_server.stale_server import stop_stale_server


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that waits, with `a-marker` among its arguments."""
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
    """A process whose command line has the marker is terminated."""
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    assert stop_stale_server(file, "a-marker")
    assert process.wait(10) != 0


def test_process_without_the_marker_is_not_stopped(
    tmp_path: Path, process: "subprocess.Popen[bytes]"
) -> None:
    """A process that has reused the id is left alone."""
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    assert not stop_stale_server(file, "another-marker")
    assert process.poll() is None


@pytest.mark.parametrize("text", [None, "", "pid", "0", "-1", "1"])
def test_invalid_pid_file_is_ignored(tmp_path: Path, text: str | None) -> None:
    """A missing PID file and one without a valid process id are ignored."""
    file = tmp_path / "pid"
    if text is not None:
        file.write_text(text)
    assert not stop_stale_server(file, "")
