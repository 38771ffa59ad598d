"""The command against real servers in processes of their own, with scripted models."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

pytestmark = pytest.mark.e2e

PATIENCE = 60.0
"""Seconds."""

SCRIPTED = "--model scripted --stt-model scripted"


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    file = tmp_path / "answers.txt"
    file.write_text("I led a team of four.\n\nI would add an index.\n")
    return file


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that somebody else keeps, and a key for it in the environment."""
    with Server(tmp_path, "--scripted-delay", "0.02") as running:
        monkeypatch.setenv("PREP_ACCESS_KEY", running.add_user())
        monkeypatch.setenv("PREP_SERVER", running.url)
        yield running


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Private servers with scripted models; the folder of their data."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", f"{SCRIPTED} --scripted-delay 0.02")
    return Path(os.environ["PREP_DATA_DIR"]) / "local-server"


def prep(
    *arguments: str | Path, code: int = 0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which must be this exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "prepcli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts the command with nothing on its standard input yet; what still runs is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "prepcli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: "subprocess.Popen[str]", number: signal.Signals) -> str:
    """End the command by a signal; what it wrote to standard error.

    Its standard input stays open until then: the end of the answers would end the interview.
    """
    process.send_signal(number)
    process.wait(PATIENCE)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    return process.communicate()[1]


def until_line(process: subprocess.Popen[str], start: str) -> str:
    """Its next line on standard output that begins so; the time limit ends a wait in vain."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"it ended: {process.communicate()}")


def is_running(pid: int) -> bool:
    """Not so when it has ended and nobody has asked for its exit code."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def pid_of_private(folder: Path) -> int:
    """The process of a private server, from its log."""
    for line in (folder / "server.log").read_text().splitlines():
        if "event=server.ready" in line:
            return int(line.rpartition("pid=")[2])
    raise AssertionError("the private server is not ready")


def test_a_private_server_holds_an_interview_and_ends(private: Path, answers: Path) -> None:
    """Nothing but prep is needed, nothing is left running, and the interview is found again."""
    done = prep("interview", "--plain", "--questions", "2", "--answers", answers)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Interviewer: ")
    assert "You: I led a team of four." in lines
    assert "You: I would add an index." in lines
    assert "Starting a private server" in done.stderr
    assert not is_running(pid_of_private(private))
    listed = json.loads(prep("list", "--json").stdout)["interviews"]
    assert [(each["status"], each["answered"]) for each in listed] == [("completed", 2)]


def test_json_is_the_wire_and_nothing_else(server: Server, answers: Path) -> None:
    """Every line of standard output is a message of the server."""
    done = prep("interview", "--json", "--questions", "1", "--answers", answers)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["type"] for message in messages[:2]] == ["hello", "snapshot"]
    kinds = [each["message"]["kind"] for each in messages if each["type"] == "interview.message"]
    assert kinds == ["question", "answer", "closing", "summary"]


def test_recordings_are_spoken(server: Server, speech_dir: Path, answers: Path) -> None:
    """Recordings come first and are written down; then come the lines."""
    audio = speech_dir / "short-answer.wav"
    done = prep("interview", "--questions", "2", "--audio", audio, "--answers", answers)
    said = [line for line in done.stdout.splitlines() if line.startswith("You: ")]
    assert "spoke for" in said[0]
    assert said[1] == "You: I led a team of four."


def test_without_answers_the_interview_is_left_as_it_is(server: Server) -> None:
    """A script without input gets the first question and an exit code of 0; nothing is ended."""
    done = prep("interview", "--plain")
    assert done.stdout.startswith("Interviewer: ")
    assert done.stdout.count("\n") == 1
    listed = json.loads(prep("list", "--json").stdout)["interviews"]
    assert [interview["status"] for interview in listed] == ["active"]


def test_answers_can_be_piped_in(server: Server) -> None:
    """Lines of standard input are answers where no files are named."""
    done = prep("interview", "--plain", "--questions", "1", stdin="Piped in.\n")
    assert "You: Piped in." in done.stdout


def test_an_interrupted_interview_is_gone_on_with(
    server: Server, answers: Path, begin: Begin
) -> None:
    """Ctrl-C leaves it as it is and says how to come back."""
    process = begin("interview", "--plain", "--questions", "1")
    until_line(process, "Interviewer: ")
    errors = ended(process, signal.SIGINT)
    assert f"--server {server.url}" in errors
    id = errors.partition("prep interview --id ")[2].split()[0]
    done = prep("interview", "--plain", "--id", id, "--answers", answers)
    assert done.stdout.count("Interviewer: ") == 2
    assert "You: I led a team of four." in done.stdout


def test_the_last_interview_is_found(server: Server, answers: Path, begin: Begin) -> None:
    """`--resume-last` goes on with it, and says so when there is none."""
    prep("interview", "--resume-last", "--plain", code=2)
    process = begin("interview", "--plain", "--questions", "1")
    question = until_line(process, "Interviewer: ")
    ended(process, signal.SIGTERM)
    done = prep("interview", "--resume-last", "--plain", "--answers", answers)
    assert done.stdout.startswith(question)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_private_server_ends_with_prep(
    private: Path, number: signal.Signals, begin: Begin
) -> None:
    """However prep is ended, but for SIGKILL, its server goes with it."""
    process = begin("interview", "--plain")
    until_line(process, "Interviewer: ")
    pid = pid_of_private(private)
    assert is_running(pid)
    ended(process, number)
    assert not is_running(pid)


def test_a_private_server_that_dies_is_reported(private: Path, begin: Begin) -> None:
    """Exit code 3 at once: nothing brings it back."""
    process = begin("interview", "--plain")
    until_line(process, "Interviewer: ")
    os.kill(pid_of_private(private), signal.SIGKILL)
    process.wait(PATIENCE)
    assert process.returncode == 3
    errors = process.communicate()[1]
    assert "The private server has ended" in errors


def test_a_server_that_outlived_its_prep_is_ended_by_the_next(private: Path, begin: Begin) -> None:
    """After a SIGKILL nobody has to look for a process."""
    process = begin("interview", "--plain", "--questions", "1")
    until_line(process, "Interviewer: ")
    orphan = pid_of_private(private)
    process.kill()
    process.communicate()
    assert "active" in prep("list").stdout
    assert pid_of_private(private) != orphan
    assert not is_running(orphan)


def test_a_second_prep_leaves_the_first_ones_server_alone(private: Path, begin: Begin) -> None:
    """It says who is using the server, and the first one goes on."""
    process = begin("interview", "--plain", "--questions", "1")
    until_line(process, "Interviewer: ")
    error = prep("list", code=3).stderr
    assert f"process {process.pid}" in error
    output, _ = process.communicate("Still here.\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert "You: Still here." in output


def test_a_private_server_that_does_not_start_says_why(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words are in the error, with exit code 3."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", "--no-such-option")
    assert "--no-such-option" in prep("interview", "--plain", code=3).stderr


def test_a_server_killed_while_it_thinks_is_waited_for(
    server: Server, answers: Path, begin: Begin
) -> None:
    """It comes back, takes up the turn by itself, and the interview is held to its end."""
    process = begin("interview", "--json", "--questions", "1", "--answers", str(answers))
    until_line(process, '{"type":"interview.delta"')
    server.kill()
    server.start()
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "connected again" in errors
    assert '"status":"completed"' in output


def test_interviews_are_listed_shown_and_exported(
    server: Server, answers: Path, tmp_path: Path
) -> None:
    """What was said is there to be read, as Markdown and as JSON."""
    assert "No interviews yet" in prep("list").stderr
    prep("interview", "--role", "Baker", "--questions", "1", "--answers", answers)
    id, status, count, title = prep("list").stdout.split(maxsplit=3)
    assert (status, count) == ("completed", "1/1")
    assert "Baker" in title
    shown = prep("show", id).stdout
    assert "**You:**\n\nI led a team of four.\n" in shown
    assert prep("export", id, "--format", "md").stdout == shown
    file = tmp_path / "interview.json"
    prep("export", id, "--format", "json", "--output", file)
    whole = json.loads(file.read_text())
    assert whole["interview"]["id"] == id
    assert [each["kind"] for each in whole["messages"]][:2] == ["question", "answer"]
    prep("show", "nobodys", code=2)
    prep("export", id, "--output", tmp_path / "no" / "folder", code=2)


def test_what_was_heard_is_shown_on_request(server: Server, speech_dir: Path) -> None:
    """Spoken answers by their segments; a typed one has none."""
    recording = speech_dir / "short-answer.wav"
    prep("interview", "--questions", "1", "--audio", recording)
    id = prep("list").stdout.split()[0]
    heard = prep("show", id, "--heard").stdout.splitlines()
    assert re.fullmatch(r"You \(3\.\d s\):", heard[0])
    assert heard[1].split()[0].startswith("0.0-")
    assert "I spoke for 3" in heard[1]


def test_a_login_lasts_until_the_logout(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is kept where it was asked to be, used, and forgotten."""
    file = tmp_path / "keys"
    prep("login", server.url, "--insecure-file", file)
    monkeypatch.delenv("PREP_ACCESS_KEY")
    prep("list")
    prep("logout")
    assert not file.exists()
    prep("list", code=4)


def test_a_wrong_key_is_not_authorised(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4, at the login and afterwards."""
    monkeypatch.setenv("PREP_ACCESS_KEY", "wrong")
    prep("login", server.url, code=4)
    prep("interview", "--plain", code=4)


def test_a_used_up_allowance_says_until_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Path
) -> None:
    """Exit code 5 and the time of the reset."""
    with Server(tmp_path, "--rate-limit", "1") as limited:
        monkeypatch.setenv("PREP_ACCESS_KEY", limited.add_user())
        arguments = ("interview", "--server", limited.url, "--answers", answers)
        done = prep(*arguments, code=5)
    year = time.strftime("%Y")
    assert f"used up until {year[:2]}" in done.stderr
