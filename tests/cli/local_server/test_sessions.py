"""End-to-end tests of `prep` against server processes with scripted models."""

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

TIMEOUT_SECONDS = 60.0
"""Maximum run time of a command, in seconds."""

SCRIPTED = "--model scripted --stt-model scripted"


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    file = tmp_path / "answers.txt"
    file.write_text("I led a team of four.\n\nI would add an index.\n")
    return file


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server, and set the server's address and a new user's key in the environment."""
    with Server(tmp_path, "--scripted-delay", "0.02") as running:
        monkeypatch.setenv("PREP_ACCESS_KEY", running.add_user())
        monkeypatch.setenv("PREP_SERVER", running.url)
        yield running


@pytest.fixture
def local_server(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make local servers use scripted models, and return their data directory."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", f"{SCRIPTED} --scripted-delay 0.02")
    return Path(os.environ["PREP_DATA_DIR"]) / "private"


def prep(
    *arguments: str | Path, code: int = 0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `prep` until it exits, check the exit code, and return the finished process."""
    done = subprocess.run(
        [sys.executable, "-m", "prepcli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Yield a function that starts `prep` with its standard input open.

    Processes that are still running at the end of the test are killed.
    """
    started: list[subprocess.Popen[str]] = []

    def start_command(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "prepcli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def stop_by_signal(process: "subprocess.Popen[str]", number: signal.Signals) -> str:
    """End `prep` by a signal, check its exit code and return its standard error.

    Standard input stays open until the process has ended, because closing it would also end `prep`.
    """
    process.send_signal(number)
    process.wait(TIMEOUT_SECONDS)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    return process.communicate()[1]


def read_line(process: subprocess.Popen[str], prefix: str) -> str:
    """Read standard output up to the next line that starts with `prefix`, and return that line."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(prefix):
            return line
    raise AssertionError(f"the command has ended: {process.communicate()}")


def is_running(pid: int) -> bool:
    """Return True if the process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_until_ended(pid: int) -> None:
    """Wait until a server that no prep uses has ended."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still running"
        time.sleep(0.05)


def local_server_pid(folder: Path) -> int:
    """Return the process id that the local server has logged."""
    for line in (folder / "server.log").read_text().splitlines():
        if "event=server.ready" in line:
            return int(line.rpartition("pid=")[2])
    raise AssertionError("the local server is not ready")


def test_interview_on_a_local_server(local_server: Path, answers: Path) -> None:
    """The local server ends by itself after the command, and a later `prep list` shows the
    interview as completed."""
    done = prep("interview", "--plain", "--questions", "2", "--answers", answers)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Interviewer: ")
    assert "You: I led a team of four." in lines
    assert "You: I would add an index." in lines
    assert "Starting the local server" in done.stderr
    wait_until_ended(local_server_pid(local_server))
    listed = json.loads(prep("list", "--json").stdout)["interviews"]
    assert [(each["status"], each["answered"]) for each in listed] == [("completed", 2)]


def test_json_output_is_the_protocol(server: Server, answers: Path) -> None:
    """With `--json`, every line of standard output is a message from the server."""
    done = prep("interview", "--json", "--questions", "1", "--answers", answers)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["type"] for message in messages[:2]] == ["hello", "snapshot"]
    transcript = [each["message"] for each in messages if each["type"] == "interview.message"]
    # The snapshot may hold the first question already, and an answer is sent again once assessed.
    kinds = {each["id"]: each["kind"] for each in (*messages[1]["messages"], *transcript)}
    assert list(kinds.values()) == ["question", "answer", "closing", "summary"]


def test_recordings_are_transcribed(server: Server, speech_dir: Path, answers: Path) -> None:
    """`--audio` recordings are transcribed as the first answers; lines of the `--answers` file
    follow."""
    audio = speech_dir / "short-answer.wav"
    done = prep("interview", "--questions", "2", "--audio", audio, "--answers", answers)
    answers_shown = [line for line in done.stdout.splitlines() if line.startswith("You: ")]
    assert "spoke for" in answers_shown[0]
    assert answers_shown[1] == "You: I led a team of four."


def test_interview_without_answers_is_unchanged(server: Server) -> None:
    """With empty standard input, prep prints the first question and leaves the interview active."""
    done = prep("interview", "--plain")
    assert done.stdout.startswith("Interviewer: ")
    assert done.stdout.count("\n") == 1
    listed = json.loads(prep("list", "--json").stdout)["interviews"]
    assert [interview["status"] for interview in listed] == ["active"]


def test_answers_can_be_piped_in(server: Server) -> None:
    """Without `--answers`, each line of standard input is an answer."""
    done = prep("interview", "--plain", "--questions", "1", stdin="Piped in.\n")
    assert "You: Piped in." in done.stdout


def test_interrupted_interview_can_be_resumed(server: Server, answers: Path, start: Start) -> None:
    """On Ctrl-C, prep prints a command that resumes the interview on the same server."""
    process = start("interview", "--plain", "--questions", "1")
    read_line(process, "Interviewer: ")
    errors = stop_by_signal(process, signal.SIGINT)
    assert f"--server {server.url}" in errors
    id = errors.partition("prep interview --id ")[2].split()[0]
    done = prep("interview", "--plain", "--id", id, "--answers", answers)
    assert done.stdout.count("Interviewer: ") == 2
    assert "You: I led a team of four." in done.stdout


def test_resume_last(server: Server, answers: Path, start: Start) -> None:
    """`--resume-last` resumes the most recent active interview; without an active interview, prep
    exits with code 2."""
    prep("interview", "--resume-last", "--plain", code=2)
    process = start("interview", "--plain", "--questions", "1")
    question = read_line(process, "Interviewer: ")
    stop_by_signal(process, signal.SIGTERM)
    done = prep("interview", "--resume-last", "--plain", "--answers", answers)
    assert done.stdout.startswith(question)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_local_server_ends_with_prep(
    local_server: Path, number: signal.Signals, start: Start
) -> None:
    """A signal ends prep, and its local server ends by itself."""
    process = start("interview", "--plain")
    read_line(process, "Interviewer: ")
    pid = local_server_pid(local_server)
    assert is_running(pid)
    stop_by_signal(process, number)
    wait_until_ended(pid)


def test_local_server_ends_with_a_killed_prep(local_server: Path, start: Start) -> None:
    """After `kill -9` of prep, its local server ends by itself, and the interview is kept."""
    process = start("interview", "--plain", "--questions", "1")
    read_line(process, "Interviewer: ")
    pid = local_server_pid(local_server)
    process.kill()
    process.communicate()
    wait_until_ended(pid)
    assert "active" in prep("list").stdout


def test_killed_local_server_is_restarted(local_server: Path, start: Start) -> None:
    """If the local server is killed, `prep interview --plain` restarts it, says so, and the next
    answer is accepted."""
    process = start("interview", "--plain", "--questions", "1")
    read_line(process, "Interviewer: ")
    pid = local_server_pid(local_server)
    os.kill(pid, signal.SIGKILL)
    output, errors = process.communicate("Still here.\n", timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    assert "The interviewer stopped. Restarting it" in errors
    assert "You: Still here." in output
    assert local_server_pid(local_server) != pid


def test_local_server_that_cannot_be_restarted_is_reported(
    local_server: Path, start: Start
) -> None:
    """If the killed local server cannot be started again, prep exits with code 3 and names the
    problem and the interview."""
    process = start("interview", "--plain", "--questions", "1")
    read_line(process, "Interviewer: ")
    database = local_server / "users.sqlite"
    os.kill(local_server_pid(local_server), signal.SIGKILL)
    database.unlink()
    database.mkdir()
    _, errors = process.communicate("Still here.\n", timeout=TIMEOUT_SECONDS)
    assert process.returncode == 3
    assert "users.sqlite" in errors
    assert "prep interview --id" in errors


def test_list_show_and_export_beside_an_interview(local_server: Path, start: Start) -> None:
    """While an interview is open, other commands use its local server, and the interview
    continues."""
    process = start("interview", "--plain", "--questions", "1", "--role", "Baker")
    question = read_line(process, "Interviewer: ").removeprefix("Interviewer: ").strip()
    pid = local_server_pid(local_server)
    id = prep("list").stdout.split()[0]
    assert question in prep("show", id).stdout
    assert json.loads(prep("export", id, "--format", "json").stdout)["interview"]["id"] == id
    assert local_server_pid(local_server) == pid
    output, _ = process.communicate("Still here.\n", timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert "You: Still here." in output


def test_second_prep_outlives_the_first(local_server: Path, start: Start) -> None:
    """Two interviews share one local server, which stays until the second one has ended."""
    first = start("interview", "--plain", "--questions", "1")
    read_line(first, "Interviewer: ")
    pid = local_server_pid(local_server)
    second = start("interview", "--plain", "--questions", "1")
    read_line(second, "Interviewer: ")
    first.kill()
    first.communicate()
    output, errors = second.communicate("Still here.\n", timeout=TIMEOUT_SECONDS)
    assert second.returncode == 0, errors
    assert "You: Still here." in output
    assert "Restarting" not in errors
    assert local_server_pid(local_server) == pid
    wait_until_ended(pid)


def test_interviews_that_start_together_share_a_server(local_server: Path, start: Start) -> None:
    """Of four commands that start at once, one starts the local server and all succeed."""
    processes = [start("interview", "--plain", "--questions", "1") for _ in range(4)]
    for process in processes:
        _, errors = process.communicate("An answer.\n", timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, errors
    assert len(prep("list").stdout.splitlines()) == 4


def test_hung_local_server_is_ended(local_server: Path, start: Start) -> None:
    """A local server that was stopped while it was starting is ended by the next prep."""
    folder = local_server
    folder.mkdir(parents=True)
    server = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", str(folder)], stdin=subprocess.PIPE
    )
    try:
        (folder / "server.lock").write_text(f"{server.pid}\n")
        assert prep("list").stdout == ""
        assert server.wait(TIMEOUT_SECONDS) != 0
    finally:
        server.kill()
        server.communicate()


def test_stored_interviews_need_neither_server_nor_models(
    local_server: Path, answers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a running server and without models, `list`, `show`, `agenda` and `export` read the
    files."""
    prep("interview", "--plain", "--questions", "1", "--answers", answers)
    wait_until_ended(local_server_pid(local_server))
    (local_server / "server.log").unlink()
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", "")
    monkeypatch.setenv("PREP_MODELS_DIR", str(tmp_path / "no-models"))
    id, status, *_ = prep("list").stdout.split()
    assert status == "completed"
    assert "I led a team of four." in prep("show", id).stdout
    assert prep("export", id).stdout == prep("show", id).stdout
    assert prep("agenda", id).stdout.startswith("Agenda:\n  1. ")
    prep("show", "unknown", code=2)
    assert not (local_server / "server.log").exists()


def test_missing_models_without_fetching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With PREP_MODELS_FETCH=no, missing models end prep with exit code 3 and the command that
    fetches them."""
    monkeypatch.setenv("PREP_MODELS_DIR", str(tmp_path / "no-models"))
    monkeypatch.setenv("PREP_MODELS_FETCH", "no")
    error = prep("interview", "--plain", code=3).stderr
    assert "prep-server models pull smollm2-135m-instruct" in error


def test_local_server_that_does_not_start_is_reported(
    local_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the local server does not start, prep exits with code 3 and shows the server's output."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", "--no-such-option")
    assert "--no-such-option" in prep("interview", "--plain", code=3).stderr


def test_killed_server_is_waited_for(server: Server, answers: Path, start: Start) -> None:
    """After a crash and a restart of the server, prep reconnects and the interview continues to its
    end."""
    process = start("interview", "--json", "--questions", "1", "--answers", str(answers))
    read_line(process, '{"type":"interview.delta"')
    server.kill()
    server.start()
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    assert "reconnected" in errors
    assert '"status":"completed"' in output


def test_list_show_and_export(server: Server, answers: Path, tmp_path: Path) -> None:
    """An interview is listed, shown as Markdown, and exported as Markdown and JSON; an unknown id
    or an invalid output path exits with code 2."""
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
    prep("show", "unknown", code=2)
    prep("export", id, "--output", tmp_path / "no" / "folder", code=2)


def test_show_heard_prints_the_transcription(server: Server, speech_dir: Path) -> None:
    """`prep show --heard` prints the segments of a spoken answer with their times."""
    recording = speech_dir / "short-answer.wav"
    prep("interview", "--questions", "1", "--audio", recording)
    id = prep("list").stdout.split()[0]
    lines = prep("show", id, "--heard").stdout.splitlines()
    assert re.fullmatch(r"You \(3\.\d s\):", lines[0])
    assert lines[1].split()[0].startswith("0.0-")
    assert "I spoke for 3" in lines[1]


def test_login_lasts_until_the_logout(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that `prep login` has stored is used until `prep logout` deletes it."""
    file = tmp_path / "keys"
    prep("login", server.url, "--insecure-file", file)
    monkeypatch.delenv("PREP_ACCESS_KEY")
    prep("list")
    prep("logout")
    assert not file.exists()
    prep("list", code=4)


def test_wrong_key_is_not_authorised(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong access key, `prep login` and `prep interview` exit with code 4."""
    monkeypatch.setenv("PREP_ACCESS_KEY", "wrong")
    prep("login", server.url, code=4)
    prep("interview", "--plain", code=4)


def test_used_up_allowance_has_its_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Path
) -> None:
    """With a used-up allowance, `prep interview` exits with code 5 and prints the time of the
    reset."""
    with Server(tmp_path, "--rate-limit", "1") as limited:
        monkeypatch.setenv("PREP_ACCESS_KEY", limited.add_user())
        arguments = ("interview", "--server", limited.url, "--answers", answers)
        done = prep(*arguments, code=5)
    year = time.strftime("%Y")
    assert f"after {year[:2]}" in done.stderr
