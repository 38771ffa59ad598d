import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepcli.local_server.stale_server import stop_stale_server


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits, with `a-mark` among its arguments."""
    waiting = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", waiting, "a-mark"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_with_the_mark_is_ended(
    tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    """It is asked to end, and waited for."""
    file = tmp_path / "pid"
    file.write_text(str(stranger.pid))
    assert stop_stale_server(file, "a-mark")
    assert stranger.wait(10) != 0


def test_a_process_of_somebody_else_is_left_alone(
    tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    """Its id may have been our server's before."""
    file = tmp_path / "pid"
    file.write_text(str(stranger.pid))
    assert not stop_stale_server(file, "another-mark")
    assert stranger.poll() is None


@pytest.mark.parametrize("text", [None, "", "pid", "0", "-1", "1"])
def test_a_file_that_names_nobody_ends_nobody(tmp_path: Path, text: str | None) -> None:
    """Neither a missing file nor nonsense does harm."""
    file = tmp_path / "pid"
    if text is not None:
        file.write_text(text)
    assert not stop_stale_server(file, "")
