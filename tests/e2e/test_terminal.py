"""`prep` on a pseudo-terminal, from the first key to the stored answers."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.pseudo_terminal import TerminalProcess
from tests.support.server import Server

pytestmark = pytest.mark.e2e

TIMEOUT_SECONDS = 60.0

PREP = (sys.executable, "-m", "prepcli")

PLAIN = (*PREP, "interview", "--plain")

PROMPT = "You: "

SCREEN = "\x1b[?1049h"
"""Escape sequence with which the full-screen app begins."""


@pytest.fixture(autouse=True)
def _server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start a server, and set the server's address and a new user's key in the environment."""
    with Server(tmp_path) as running:
        monkeypatch.setenv("PREP_ACCESS_KEY", running.add_user())
        monkeypatch.setenv("PREP_SERVER", running.url)
        yield


def run(*arguments: str) -> str:
    """Run `prep` without a terminal, and return its standard output."""
    return subprocess.run(
        [*PREP, *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=True,
    ).stdout


def stored_answers() -> list[str]:
    """Return the answers that the server has stored for the only interview."""
    [interview] = json.loads(run("list", "--json"))["interviews"]
    exported: dict[str, Any] = json.loads(run("export", interview["id"], "--format", "json"))
    return [each["text"] for each in exported["messages"] if each["kind"] == "answer"]


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_long_typed_line_is_stored_whole(term: str) -> None:
    """A typed line of 5,919 characters is stored whole."""
    typed = "start " + "word " * 1180 + "END_OF_ANSWER"
    with TerminalProcess(*PLAIN, "--questions", "1", environment={"TERM": term}) as terminal:
        terminal.wait_for(PROMPT)
        for start in range(0, len(typed), 500):
            terminal.type(typed[start : start + 500])
        terminal.type("\n")
        assert terminal.wait() == 0
    assert stored_answers() == [typed]


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_pasted_lines_and_arrow_keys(term: str) -> None:
    """Three pasted lines answer one question, and a left arrow edits the next answer."""
    pasted = "First I measured the queue.\nThen I split the consumers.\nLatency fell by half."
    with TerminalProcess(*PLAIN, "--questions", "2", environment={"TERM": term}) as terminal:
        terminal.wait_for(PROMPT)
        terminal.type(f"{pasted}\n")
        terminal.wait_for("Interviewer: ")
        terminal.wait_for(PROMPT)
        terminal.type("Kafja\x1b[D\x7fk\n")
        assert terminal.wait() == 0
    assert stored_answers() == [pasted, "Kafka"]


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_agenda_and_requests_at_a_terminal(term: str) -> None:
    """The agenda is edited before the start, a request leaves the question open, and the first
    question is that of the edited agenda."""
    options = ("--questions", "2", "--agenda")
    with TerminalProcess(*PLAIN, *options, environment={"TERM": term}) as terminal:
        terminal.wait_for("Agenda:\r\n  1. ")
        terminal.wait_for("Press Enter to start")
        terminal.wait_for("Agenda: ")
        terminal.type("remove 9\n")
        terminal.wait_for("topics 1 to 2")
        terminal.wait_for("Agenda: ")
        terminal.type("change 1 Which bug are you proud of?\n")
        terminal.wait_for("Agenda:\r\n  1. Which bug are you proud of?")
        terminal.wait_for("Agenda: ")
        terminal.type("\n")
        terminal.wait_for("Interviewer: ")
        terminal.wait_for("Which bug are you proud of?")
        terminal.wait_for(PROMPT)
        terminal.type("/repeat\n")
        terminal.wait_for("You: Could you repeat the question?")
        terminal.wait_for("Interviewer: ")
        terminal.wait_for(PROMPT)
        terminal.type("A race in the scheduler.\n")
        terminal.wait_for("Interviewer: ")
        terminal.wait_for(PROMPT)
        terminal.type("/end\n")
        assert terminal.wait() == 0
    assert stored_answers() == ["A race in the scheduler."]


def test_rest_of_a_paste_is_not_executed(tmp_path: Path) -> None:
    """What is typed after the last answer is not read by the shell from which `prep` was
    started."""
    command = f'{shlex.join(PLAIN)} --questions 1; echo "over"; read -r -t 1 line; echo "<$line>"'
    with TerminalProcess("bash", "-c", command) as terminal:
        terminal.wait_for(PROMPT)
        terminal.type("An answer.\n")
        terminal.wait_for("Interviewer: ")
        terminal.type("rm -r x\n")
        terminal.wait_for("over")
        terminal.wait_for("<>")


def test_answers_at_a_terminal_are_not_mixed_into_json(tmp_path: Path) -> None:
    """With `--json`, standard output is JSON alone, also if the answer is typed at a terminal and
    both outputs are redirected."""
    command = f"{shlex.join(PREP)} interview --json --questions 1 >out 2>notes"
    with TerminalProcess(
        "sh", "-c", f"cd {shlex.quote(str(tmp_path))}; exec {command}"
    ) as terminal:
        terminal.wait_for(PROMPT)
        terminal.type("An answer.\n")
        assert terminal.wait() == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines][:2] == ["hello", "snapshot"]
    assert stored_answers() == ["An answer."]


def test_closing_the_terminal_keeps_the_interview() -> None:
    """Closing the terminal at the prompt does not end the interview."""
    with TerminalProcess(*PLAIN, "--questions", "1") as terminal:
        terminal.wait_for(PROMPT)
        terminal.type("A draft.")
        terminal.close()
        assert terminal.wait_for_exit() == 129
    [interview] = json.loads(run("list", "--json"))["interviews"]
    assert interview["status"] == "active"


@pytest.mark.parametrize(
    ("redirection", "variables"),
    [
        ("", {}),
        ("2>/dev/null", {}),
        ("2>&-", {}),
        ("", {"TEXTUAL_THEME": "galaxy"}),
        ("", {"TEXTUAL_THEME": "nord,galaxy"}),
        ("", {"TEXTUAL_DRIVER": "nowhere:Driver", "TEXTUAL_COLOR_SYSTEM": "none"}),
        ("", {"TEXTUAL_ANIMATIONS": "bogus", "TEXTUAL_FPS": "fast", "ESCDELAY": "x"}),
        ("", {"COLUMNS": "0", "LINES": "abc", "NO_COLOR": "1"}),
    ],
)
def test_screen_is_drawn(redirection: str, variables: dict[str, str]) -> None:
    """The screen is drawn whatever standard error is, and whatever other programs have set."""
    command = f"exec {shlex.join(PREP)} interview {redirection}"
    with TerminalProcess("sh", "-c", command, environment=variables) as terminal:
        terminal.wait_for(SCREEN)
        terminal.wait_for("No interviews yet")
        terminal.type("\x11")  # ctrl+q
        assert terminal.wait() == 0


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}]
)
def test_lines_replace_a_screen_that_cannot_be_drawn(variables: dict[str, str]) -> None:
    """On a terminal that cannot show the screen, `prep interview` says so and prints lines."""
    command = (*PREP, "interview")
    with TerminalProcess(*command, environment=variables) as terminal:
        terminal.wait_for(PROMPT)
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert SCREEN not in terminal.output
        assert "prep prints lines" in terminal.output


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("list", "--json"), ("show", "ID"), ("export", "ID"), ("interview", "--json")],
)
def test_narrow_encoding_stops_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]
) -> None:
    """A title and an answer with characters that the encoding lacks stop no command."""
    (tmp_path / "answers.txt").write_text("It’s a “queue” → done 😀\n")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    role, answers = "Data Engineer – Platform", str(tmp_path / "answers.txt")
    options = ("--role", role, "--questions", "1", "--answers", answers)
    assert "It?s a ?queue? ? done ?" in run("interview", "--plain", *options)
    [interview] = json.loads(run("list", "--json"))["interviews"]
    assert interview["title"] == role
    command = [interview["id"] if each == "ID" else each for each in arguments]
    done = subprocess.run(
        [*PREP, *command, *(options if "interview" in command else ())],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    if "--json" in command:
        for line in done.stdout.splitlines():
            json.loads(line)


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("arguments", ["--plain", "--json"])
def test_lost_output_of_an_interview(tmp_path: Path, redirection: str, arguments: str) -> None:
    """If an interview cannot be printed, `prep` exits with code 1, says so, and names the command
    that resumes the interview."""
    command = f'"$0" -m prepcli interview {arguments} --questions 1 {redirection}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 1
    assert "Error: Cannot write to standard output" in done.stderr
    assert "prep interview --id " in done.stderr
    assert "Traceback" not in done.stderr
