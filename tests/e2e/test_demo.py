"""The interview that `make run` holds where there is no terminal, word for word as it is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.e2e, pytest.mark.models]

HEARD_WELL = 0.2
"""Words wrong for each word said."""


def demo_command() -> list[str]:
    """What `make demo` runs, with the Python that runs this test."""
    shown = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    words = shlex.split(shown.stdout.splitlines()[-1])
    assert words[1:4] == ["-m", "prepcli", "interview"]
    return [sys.executable, *words[1:]]


def words_of(text: str) -> list[str]:
    """Words as they are compared: a listener may write 40% or forty percent."""
    return re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("40%", "forty percent")).split()


def word_errors(said: list[str], heard: list[str]) -> int:
    """Words put in, left out or replaced (Levenshtein's distance, over words)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (word != other)))
    return row[-1]


def test_the_recorded_interview_is_heard_and_answered(models_dir: Path, speech_dir: Path) -> None:
    """Each recording comes back as its words, and after each but the last stands a question."""
    command = demo_command()
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("Interviewer:", "You:"))]
    speakers = [line.partition(":")[0] for line in lines]
    assert speakers == ["Interviewer", "You"] * 3 + ["Interviewer"]

    transcripts = dict(
        line.split("\t")
        for line in (speech_dir / "transcripts.tsv").read_text("utf-8").splitlines()
    )
    recordings = [Path(word).stem for word in command if word.endswith(".wav")]
    for name, line in zip(recordings, lines[1::2], strict=True):
        said, heard = words_of(transcripts[name]), words_of(line.removeprefix("You: "))
        assert word_errors(said, heard) / len(said) < HEARD_WELL, line

    questions = [line.removeprefix("Interviewer: ") for line in lines[0:-1:2]]
    assert all(question.endswith("?") for question in questions)
    assert len(set(questions)) == len(questions)
    assert "Questions answered: 3 of 3" in done.stdout
