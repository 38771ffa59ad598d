"""Interview that `make demo` holds with recorded answers, like `make run` without a terminal."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wer import wer

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.e2e, pytest.mark.models]

MAX_WER = 0.2


def demo_command() -> list[str]:
    """Return the command that `make demo` runs, with the Python interpreter that runs this test."""
    dry_run = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "demo"],
        cwd=ROOT,
        # Variables of an outer make would change the behaviour of this one.
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    arguments = shlex.split(dry_run.stdout.splitlines()[-1])
    assert arguments[1:4] == ["-m", "prepcli", "interview"]
    return [sys.executable, *arguments[1:]]


def test_the_recorded_answers_are_transcribed_and_followed_by_questions(
    models_dir: Path, speech_dir: Path
) -> None:
    """`make demo` transcribes each recording, asks a new question after each, and ends the
    interview."""
    command = demo_command()
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("Interviewer:", "You:"))]
    speakers = [line.partition(":")[0] for line in lines]
    assert speakers == ["Interviewer", "You"] * 4 + ["Interviewer"] * 2

    transcripts = dict(
        line.split("\t")
        for line in (speech_dir / "transcripts.tsv").read_text("utf-8").splitlines()
    )
    recordings = [Path(word).stem for word in command if word.endswith(".wav")]
    for name, line in zip(recordings, lines[1::2], strict=False):
        assert wer(transcripts[name], line.removeprefix("You: ")) < MAX_WER, line

    questions = [line.removeprefix("Interviewer: ") for line in lines[0:9:2]]
    assert all(question.endswith("?") for question in questions)
    assert len(set(questions)) == len(questions)
    assert not lines[-1].endswith("?")
    assert "Questions answered: 4 of 5" in done.stdout
