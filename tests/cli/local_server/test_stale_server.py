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
    """The process in the PID file is terminated if the marker is one of its arguments."""
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    assert stop_stale_server(file, "a-marker")
    assert process.wait(10) != 0


@pytest.mark.parametrize("marker", ["another-marker", "a-mark", "marker", "a-marker/server.log"])
def test_process_without_the_marker_is_not_stopped(
    tmp_path: Path, process: "subprocess.Popen[bytes]", marker: str
) -> None:
    """The process in the PID file is not terminated if none of its arguments is the marker."""
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    assert not stop_stale_server(file, marker)
    assert process.poll() is None


@pytest.mark.parametrize(
    "content", [None, b"", b"pid", b"0", b"-1", b"1", b"9" * 30, b"9" * 5_000, b"\xff\xfe", b"\0\0"]
)
def test_invalid_pid_file_is_ignored(tmp_path: Path, content: bytes | None) -> None:
    """A PID file that is missing or contains no process id greater than 1 is ignored."""
    file = tmp_path / "pid"
    if content is not None:
        file.write_bytes(content)
    assert not stop_stale_server(file, "")
