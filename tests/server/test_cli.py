"""The command line of `prep-server`: users, statistics, and invalid settings."""

import json
from pathlib import Path
from typing import Any

import argon2
import pytest
from click.testing import CliRunner, Result

from prepserver.accounts.users import Users
from prepserver.app import VERSION
from prepserver.cli import cli, main
from prepserver.clock import SystemClock
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import CallRecord
from tests.support.loop import asynchronous


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREP_SERVER_DATA_DIR", str(tmp_path / "server"))
    # The models of the machine are shared: no command here may remove them.
    monkeypatch.setenv("PREP_MODELS_DIR", str(tmp_path / "models"))
    # The default cost of Argon2 would slow the tests down.
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("prepserver.accounts.users.PasswordHasher", lambda: cheap)
    return tmp_path / "server"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def run_json(*args: str) -> Any:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@asynchronous
async def test_a_printed_key_authenticates(data_dir: Path) -> None:
    """The key printed by `users add` authenticates the user."""
    new = run_json("users", "add", "ada")
    assert new["name"] == "ada"
    users = Users(data_dir / "users.sqlite", SystemClock())
    assert await users.authenticate(new["key"]) == new["id"]
    users.close()


def test_the_key_is_printed_once(data_dir: Path) -> None:
    """`users add` prints the new user's key, and `users list` does not."""
    result = run("users", "add", "ada")
    assert result.exit_code == 0
    assert "  prep_" in result.stdout
    assert "prep_" not in run("users", "list").stdout


def test_users_are_listed_rotated_and_removed(data_dir: Path) -> None:
    """`users rotate` issues a new key for the user, and `users remove` removes the user."""
    new = run_json("users", "add", "ada")
    run_json("users", "add", "bob")
    assert run("users", "list").stdout == "ada\nbob\n"
    assert [user["name"] for user in run_json("users", "list")] == ["ada", "bob"]
    rotated = run_json("users", "rotate", "ada")
    assert rotated["id"] == new["id"]
    assert rotated["key"] != new["key"]
    assert run("users", "remove", "ada").exit_code == 0
    assert run("users", "list").stdout == "bob\n"


@pytest.mark.parametrize(
    ("args", "code", "named"),
    [
        (("users", "rotate", "unknown"), 1, "users list"),
        (("users", "remove", "unknown"), 1, "users list"),
        (("users", "add", " "), 1, "printable"),
        (("serve", "--port", "99999"), 2, "from --port"),
        (("serve", "--port", "many"), 2, "--port"),
        (("serve", "--log-level", "loud"), 2, "from --log-level"),
        (("serve", "--hint-after", "0"), 2, "from --hint-after"),
        (("serve", "--config", "/nowhere.toml"), 2, "nowhere.toml"),
        (("serve", "--no-such-flag"), 2, "no-such-flag"),
        (("serve", "--model", "no-such-model"), 3, "no-such-model"),
        (("interviews", "unknown", "--user", "ada"), 4, "no interview"),
        (("users", "add"), 2, "NAME"),
        (("users", "add", "\udcff"), 1, "printable"),
        (("users", "rotate", "\udcff"), 2, "encoding"),
        (("interviews", "\udcff", "--user", "ada"), 2, "encoding"),
        (("interviews", "", "--user", "ada"), 2, "empty"),
        (("interviews", "--user", "\udcff"), 2, "encoding"),
        (("calls", "--user", "\udcff"), 2, "encoding"),
        (("calls", "--interview", "\udcff"), 2, "encoding"),
        (("models", "path", "starter"), 1, "is the set of the models"),
        (("models", "remove", "starter"), 1, "not installed"),
        (("models", "verify", "starter"), 1, "is the set of the models"),
    ],
)
def test_errors_have_a_message_and_an_exit_code(
    data_dir: Path, args: tuple[str, ...], code: int, named: str
) -> None:
    """A command exits with a status for the kind of error, 2 after a usage error, and prints a
    message without a traceback."""
    result = run(*args)
    assert result.exit_code == code
    assert named in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_adding_an_existing_user_fails_without_replace(data_dir: Path) -> None:
    """Adding an existing user fails with a message that names `users rotate`; with `--replace`, the
    command succeeds and the user keeps the id."""
    first = run_json("users", "add", "ada")
    again = run("users", "add", "ada")
    assert again.exit_code == 1
    assert "rotate ada" in again.output
    assert run_json("users", "add", "ada", "--replace")["id"] == first["id"]


def test_an_invalid_settings_file_exits_with_2(data_dir: Path, tmp_path: Path) -> None:
    """A command with an invalid settings file exits with status 2 and names the file."""
    file = tmp_path / "server.toml"
    file.write_text("port = ")
    for command in (("serve",), ("users", "list")):
        result = run(*command, "--config", str(file))
        assert result.exit_code == 2
        assert str(file) in result.output


def test_the_data_dir_flag_beats_the_environment(data_dir: Path, tmp_path: Path) -> None:
    """`--data-dir` takes precedence over PREP_SERVER_DATA_DIR."""
    elsewhere = tmp_path / "elsewhere"
    assert run("users", "add", "ada", "--data-dir", str(elsewhere)).exit_code == 0
    assert (elsewhere / "users.sqlite").exists()
    assert not data_dir.exists()


def test_version() -> None:
    """`--version` prints the version of the installed distribution."""
    assert run("--version").stdout.strip().endswith(VERSION)


def test_administrators_are_added_promoted_and_demoted(data_dir: Path) -> None:
    """`users list` marks administrators, and `users promote` and `users demote` change the role."""
    run_json("users", "add", "ada", "--admin")
    run_json("users", "add", "bob")
    assert run("users", "list").stdout == "ada (administrator)\nbob\n"
    assert run("users", "promote", "bob").exit_code == 0
    assert run("users", "demote", "ada").exit_code == 0
    assert [(u["name"], u["admin"]) for u in run_json("users", "list")] == [
        ("ada", False),
        ("bob", True),
    ]
    unknown = run("users", "promote", "unknown")
    assert unknown.exit_code == 1
    assert "no user named unknown" in unknown.stderr


def test_stats_errors(data_dir: Path) -> None:
    """`stats` reports a missing call log and an invalid time span with different messages."""
    missing = run("stats")
    assert missing.exit_code == 1
    assert "no call log" in missing.stderr
    wrong = run("stats", "--since", "yesterday")
    assert wrong.exit_code == 1
    assert "24h" in wrong.stderr


@asynchronous
async def test_calls_are_filtered_by_user(data_dir: Path) -> None:
    """`calls --user` accepts the name of a user, or the id of a removed user."""
    ada, bob = run_json("users", "add", "ada"), run_json("users", "add", "bob")
    clock = SystemClock()
    log = CallLog(data_dir / "calls.sqlite", clock)
    for user in (ada, bob):
        log.add(
            CallRecord(
                at=clock.now() - 60,
                kind="generate",
                purpose="question",
                user=user["id"],
                interview="i",
                request=f"for {user['name']}",
            )
        )
    await log.close()
    assert run_json("calls", "--user", "ada")["request"] == "for ada"
    run("users", "remove", "ada")
    assert run_json("calls", "--user", ada["id"])["request"] == "for ada"
    assert "No matching calls" in run("calls", "--user", "unknown").stdout
    assert "No matching calls" in run("calls", "--since", "5s").stdout
    assert len(run("calls").stdout.splitlines()) == 3


@pytest.mark.parametrize("name", ["structlog", "litestar.openapi", "llama_cpp"])
def test_a_client_alone_cannot_serve(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the client is installed, `prep-server` names the missing package and says how to
    install the server."""

    def serve(**_: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("prepserver.cli.cli", serve)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert name in shown
    assert "pipx install --force '.[server]'" in shown
    assert "Traceback" not in shown


def test_a_broken_installation_of_the_server_is_not_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing module of the server itself keeps its traceback."""

    def serve(**_: str) -> None:
        raise ModuleNotFoundError("No module named 'prepserver.app'", name="prepserver.app")

    monkeypatch.setattr("prepserver.cli.cli", serve)
    with pytest.raises(ModuleNotFoundError):
        main()
