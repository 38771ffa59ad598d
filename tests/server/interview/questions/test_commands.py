"""`prep-server questions`."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from prepserver.interview.questions.bank import load_bank
from prepserver.interview.questions.commands import questions
from tests.server.interview.questions.test_bank_files import GOOD, OWN_CRAFT


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREP_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("PREP_SERVER_QUESTION_BANKS", raising=False)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(questions, [str(argument) for argument in arguments])


def test_a_good_bank_passes(tmp_path: Path) -> None:
    """Checking a bank without faults exits with 0 and prints nothing but the counts."""
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    result = run("check", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 questions, 0 faults, 0 warnings" in result.stderr


def test_every_fault_is_printed(tmp_path: Path) -> None:
    """Checking prints each fault of each file on a line of its own and exits with 1."""
    (tmp_path / "a.toml").write_text(GOOD + GOOD.replace("-lamp", "-two").replace('["any"]', "1"))
    (tmp_path / "b.toml").write_text(GOOD)
    (tmp_path / "c.toml").write_text("broken")
    result = run("check", tmp_path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if "Warning" not in line] == [
        str(tmp_path / name) for name in ("a.toml", "b.toml", "c.toml")
    ]
    assert "3 faults" in result.stderr


def test_likely_duplicates_are_warned_of(tmp_path: Path) -> None:
    """A question that asks for the same as a packaged one or another of its own, a long one, and
    one with two points give warnings, and the exit code stays 0."""
    packaged = load_bank().questions[0]
    text = packaged.text
    file = tmp_path / "mine.toml"
    again = GOOD.replace("How do you keep the lamp of a lighthouse burning through a storm?", text)
    long = GOOD.replace(
        "through a storm", "through a storm that lasts " + "a week and " * 6 + "more"
    )
    two = GOOD.replace('"a spare lamp", ', "").replace("keep the lamp", "keep the big lamp")
    file.write_text(again.replace("-lamp", "-again") + long.replace("-lamp", "-long") + two + "\n")
    result = run("check", file)
    assert result.exit_code == 0
    assert packaged.id in result.stdout
    for name in ("my-lighthouse-again", "my-lighthouse-long", "my-lighthouse-lamp"):
        assert f"Warning: The question '{name}'" in result.stdout


def test_own_banks_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files, the banks of the settings are checked, or else those in the user's folder."""
    assert "0 files" in run("check").stderr
    folder = tmp_path / "config" / "questions"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(GOOD)
    assert "1 files, 1 questions" in run("check").stderr
    (tmp_path / "other.toml").write_text("broken")
    monkeypatch.setenv("PREP_SERVER_QUESTION_BANKS", str(tmp_path / "other.toml"))
    assert run("check").exit_code == 1


@pytest.mark.parametrize("path", ["none.toml", "$HOME/x.toml", ""])
def test_a_path_that_cannot_be_used_is_named(path: str, tmp_path: Path) -> None:
    """A path that does not exist or is none ends in an error message, not in a traceback."""
    result = run("check", tmp_path / path if path == "none.toml" else path)
    assert result.exit_code in (1, 2)
    assert "Error" in result.stderr


def test_what_would_be_asked_is_listed(tmp_path: Path) -> None:
    """The list shows the questions of an interview for the role, with those of the own banks."""
    file = tmp_path / "mine.toml"
    file.write_text(OWN_CRAFT)
    result = run("list", "--role", "Lighthouse keeper", "--type", "technical", "--bank", file)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 8
    assert "[my-lighthouse-lamp]" in result.stdout
    assert run("list", "--role", "", "--count", "3").stdout.count("\n") == 3
    assert run("list", "--count", "0").exit_code == 2
    assert run("list", "--bank", tmp_path / "none").exit_code == 1
