"""Commands whose standard streams are closed, full or of a narrow encoding."""

import subprocess
import sys

import pytest

from prepserver.standard_streams import BROKEN_PIPE_CODE

TIMEOUT_SECONDS = 60.0

PROGRAM = """
import sys
from prepserver.standard_streams import run_command

def command():
    print("out: it’s \\u2500")
    print("err: it’s \\u2500", file=sys.stderr)
    print("in:", repr(sys.stdin.read()))
    sys.exit(3)

run_command(command, prefix="program")
"""


def run(redirection: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a shell with the given redirection."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {redirection}', sys.executable, PROGRAM],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "1</dev/null"])
def test_lost_output_is_reported(redirection: str) -> None:
    """If standard output is full, closed or open for reading only, the command exits with code 1
    and a sentence."""
    done = run(redirection)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("err: ")
    assert lines[1].startswith("program: Cannot write to standard output: ")
    assert len(lines) == 2


@pytest.mark.parametrize("redirection", ["| true", "| head -c 1 | true"])
def test_closed_pipe_ends_the_command_quietly(redirection: str) -> None:
    """If the reader of standard output has ended, the command exits as if by SIGPIPE, without a
    message."""
    done = run(f"2>/dev/null {redirection}")
    assert (done.returncode, done.stderr) in [(BROKEN_PIPE_CODE, b""), (3, b"")]


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>/dev/null"])
def test_lost_notes_are_ignored(redirection: str) -> None:
    """If standard error is lost, standard output and the exit code are as usual."""
    done = run(redirection)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.decode() == "out: it’s ─\nin: ''\n"


@pytest.mark.parametrize("redirection", ["<&-", "</dev/null"])
def test_closed_input_is_empty(redirection: str) -> None:
    """A closed standard input is an empty one."""
    done = run(redirection)
    assert (done.returncode, done.stdout.decode()) == (3, "out: it’s ─\nin: ''\n")


def test_everything_closed() -> None:
    """With all standard streams closed, the command exits with code 1 and writes nothing."""
    done = run("<&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "koi8-u:strict", "cp437"])
def test_missing_characters_are_question_marks(encoding: str) -> None:
    """A character that the encoding lacks is written as `?`, on both streams."""
    done = run("", PYTHONIOENCODING=encoding)
    assert done.returncode == 3
    text = "it’s ─".encode(encoding.partition(":")[0], "replace")
    assert b"?" in text
    assert done.stdout.startswith(b"out: " + text)
    assert done.stderr.startswith(b"err: " + text)


def test_non_blocking_pipe() -> None:
    """Output to a full pipe that another program has made non-blocking is not lost."""
    program = PROGRAM.replace('print("out', 'print("x" * 1_000_000); print("out')
    nonblocking = "import os; os.set_blocking(1, False)" + program
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | cat', sys.executable, nonblocking],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert len(done.stdout) > 1_000_000


@pytest.mark.parametrize("module", ["prepcli", "prepserver"])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_both_commands_report_lost_output(module: str, redirection: str) -> None:
    """`prep` and `prep-server` exit with code 1 and one line if their output is lost."""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m {module} --help {redirection}', sys.executable],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
