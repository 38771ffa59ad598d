"""`prep models`, with a stand-in for `prep-server`, and the set that the local server is given."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prepcli import config, model_commands, paths
from prepcli.errors import LocalServerFailed, PrepError, UsageError
from prepcli.local_server import commands
from prepcli.local_server.commands import serve_arguments
from prepcli.model_commands import models

STARTER = {
    "name": "starter",
    "size": 176_000_000,
    "fetched": 176_000_000,
    "installed": True,
    "fetching": False,
    "problem": "",
    "about": "Runs anywhere.",
}
STANDARD = STARTER | {"name": "standard", "size": 1_265_000_000, "installed": False, "fetched": 0}


def stand_in(monkeypatch: pytest.MonkeyPatch, *sets: dict[str, Any], script: str = "") -> None:
    """Replace `prep-server` by a script that prints `sets` for `models sets --json`, and otherwise
    runs `script`."""
    answer = json.dumps(sets or (STARTER, STANDARD))
    program = (
        "import sys\n"
        "if sys.argv[1:] == ['models', 'sets', '--json']:\n"
        f"    print({answer!r})\n"
        "else:\n"
        f"    {script or 'print(sys.argv[1:])'}\n"
    )

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-c", program, *arguments]

    monkeypatch.setattr(commands, "command", command)
    monkeypatch.setattr(model_commands, "command", command)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, list(arguments))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "1,265 MB"),
        ({"fetched": 412_000_000}, "412 of 1,265 MB fetched"),
        ({"fetched": 412_000_000, "fetching": True}, "fetching: 412 of 1,265 MB"),
        ({"fetched": 412_000_000, "problem": "No network."}, "failed at 412 of 1,265 MB"),
        ({"fetched": 412_000_000, "problem": "No network."}, "No network."),
        ({"fetched": 1, "fetching": True, "problem": "No network."}, "fetching: 0 of 1,265 MB"),
        ({"installed": True}, "installed, 1,265 MB"),
    ],
)
def test_list_shows_the_state_of_each_set(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], text: str
) -> None:
    """`list` shows whether a set is installed, the progress of its download and the reason of a
    failure."""
    stand_in(monkeypatch, STARTER, STANDARD | changes)
    result = run("list")
    assert result.exit_code == 0, result.output
    first, *rest = result.stdout.splitlines()
    assert "starter" in first
    assert "installed, 176 MB" in first
    assert text in "\n".join(rest)
    assert not any(line.startswith("*") for line in result.stdout.splitlines())


def test_use_is_kept_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use SET` is stored, marks the set in the list and is passed to the local server; `use auto`
    undoes it."""
    stand_in(monkeypatch)
    monkeypatch.delenv("PREP_MODELS_FETCH")
    assert serve_arguments() == ["--fetch-set", "standard"]
    result = run("use", "starter")
    assert result.exit_code == 0, result.output
    assert config.load(paths.settings_file()).model_set == "starter"
    assert run("list").stdout.startswith("* starter")
    assert serve_arguments() == ["--model-set", "starter", "--fetch-set", "starter"]
    assert run("use", "auto").exit_code == 0
    assert serve_arguments() == ["--fetch-set", "standard"]


def test_use_of_a_set_that_is_not_fetched_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use` of a set that is not installed names the command that fetches it."""
    stand_in(monkeypatch)
    assert "prep models get standard" in run("use", "standard").stderr
    assert "get" not in run("use", "starter").stderr


@pytest.mark.parametrize("command", ["get", "use", "remove"])
@pytest.mark.parametrize("name", ["huge", "st arter", "../starter", "--starter", "STARTER"])
def test_an_unknown_set_is_rejected(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    """The name of no set is rejected before anything is done, and the sets are listed."""
    stand_in(monkeypatch, script="sys.exit(9)")
    result = run(command, "--", name)
    assert isinstance(result.exception, UsageError)
    assert "starter, standard" in str(result.exception)
    assert config.load(paths.settings_file()).model_set == ""


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (("get", "standard"), ["models", "pull", "standard"]),
        (("remove", "standard"), ["models", "remove", "standard"]),
        (("recommend",), ["models", "recommend"]),
    ],
)
def test_commands_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    passed: list[str],
) -> None:
    """`get`, `remove` and `recommend` run the command of `prep-server` on the same terminal."""
    stand_in(monkeypatch)
    assert run(*arguments).exit_code == 0
    assert capfd.readouterr().out == f"{passed}\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [("sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 2)", 130), ("sys.exit('no')", 1)],
)
def test_the_exit_code_is_that_of_the_server(
    monkeypatch: pytest.MonkeyPatch, script: str, code: int
) -> None:
    """A failed command ends with the same exit code, and an interrupted one with 130."""
    stand_in(monkeypatch, script=script)
    assert run("get", "standard").exit_code == code


def test_a_client_without_the_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the server's packages, the commands name the way to install them."""
    monkeypatch.setattr(
        commands,
        "command",
        lambda *arguments: [sys.executable, "-c", "import no_such_package_of_the_server"],
    )
    for arguments in (("list",), ("get", "standard"), ("use", "standard")):
        result = run(*arguments)
        assert isinstance(result.exception, LocalServerFailed)
        assert ".[server]" in str(result.exception)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ["--fetch-set", "standard"]),
        ({"PREP_MODELS_FETCH": "no"}, []),
        ({"PREP_MODELS_FETCH": " NO "}, []),
        ({"PREP_MODELS_FETCH": "yes"}, ["--fetch-set", "standard"]),
        ({"PREP_MODELS_SET": "starter"}, ["--model-set", "starter", "--fetch-set", "starter"]),
        ({"PREP_MODELS_SET": "large"}, ["--model-set", "large", "--fetch-set", "large"]),
        ({"PREP_MODELS_SET": "large", "PREP_MODELS_FETCH": "no"}, ["--model-set", "large"]),
        ({"PREP_MODELS_SET": "  "}, ["--fetch-set", "standard"]),
        ({"PREP_LOCAL_SERVER_ARGS": "--model x"}, ["--fetch-set", "standard", "--model", "x"]),
    ],
)
def test_what_the_local_server_uses_and_fetches(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: list[str]
) -> None:
    """The local server fetches the standard set or the chosen one, and nothing if
    PREP_MODELS_FETCH is `no`; PREP_MODELS_SET chooses a set for one start."""
    monkeypatch.delenv("PREP_MODELS_FETCH")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert serve_arguments() == expected


def test_a_damaged_settings_file_is_named(tmp_path: Path) -> None:
    """If the settings cannot be read, the local server is not started with another choice."""
    paths.settings_file().parent.mkdir(parents=True)
    paths.settings_file().write_text("model_set = 5")
    with pytest.raises(PrepError, match=r"config\.toml"):
        serve_arguments()
