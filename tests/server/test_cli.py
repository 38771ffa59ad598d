"""`prep-server`: users, and how wrong settings end."""

import json
from pathlib import Path
from typing import Any

import argon2
import pytest
from click.testing import CliRunner, Result

from prepserver.accounts.users import Users
from prepserver.app import VERSION
from prepserver.cli import cli
from prepserver.clock import SystemClock
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import CallRecord
from tests.support.loop import asynchronous


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREP_SERVER_DATA_DIR", str(tmp_path / "server"))
    # The product's own cost is for attackers; here it would only be waited for.
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("prepserver.accounts.users.PasswordHasher", lambda: cheap)
    return tmp_path / "server"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def printed(*args: str) -> Any:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@asynchronous
async def test_an_added_users_key_opens_the_server(data_dir: Path) -> None:
    """The key is printed once, and the server knows it."""
    new = printed("users", "add", "ada")
    assert new["name"] == "ada"
    users = Users(data_dir / "users.sqlite", SystemClock())
    assert await users.authenticate(new["key"]) == new["id"]
    users.close()


def test_the_key_is_shown_to_people_too(data_dir: Path) -> None:
    """With a sentence that says it is shown only now."""
    result = run("users", "add", "ada")
    assert result.exit_code == 0
    assert "shown only now" in result.stdout
    assert "  prep_" in result.stdout
    assert "prep_" not in run("users", "list").stdout


def test_users_are_listed_rotated_and_removed(data_dir: Path) -> None:
    """The list has no keys; rotating gives another key to the same user."""
    new = printed("users", "add", "ada")
    printed("users", "add", "bob")
    assert run("users", "list").stdout == "ada\nbob\n"
    assert [user["name"] for user in printed("users", "list")] == ["ada", "bob"]
    rotated = printed("users", "rotate", "ada")
    assert rotated["id"] == new["id"]
    assert rotated["key"] != new["key"]
    assert run("users", "remove", "ada").exit_code == 0
    assert run("users", "list").stdout == "bob\n"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("users", "rotate", "nobody"), 1, "users list"),
        (("users", "remove", "nobody"), 1, "users list"),
        (("users", "add", " "), 1, "printable"),
        (("serve", "--port", "99999"), 2, "from --port"),
        (("serve", "--port", "many"), 2, "--port"),
        (("serve", "--log-level", "loud"), 2, "from --log-level"),
        (("serve", "--hint-after", "0"), 2, "from --hint-after"),
        (("serve", "--config", "/nowhere.toml"), 2, "nowhere.toml"),
        (("serve", "--no-such-flag"), 2, "no-such-flag"),
        (("serve", "--model", "no-such-model"), 1, "no-such-model"),
        (("users", "add"), 2, "NAME"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    data_dir: Path, args: tuple[str, ...], code: int, says: str
) -> None:
    """2 for what was typed, 1 for what cannot be done; never a traceback."""
    result = run(*args)
    assert result.exit_code == code
    assert says in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_adding_twice_is_refused_unless_a_new_key_is_asked_for(data_dir: Path) -> None:
    """The sentence names the command that helps."""
    first = printed("users", "add", "ada")
    again = run("users", "add", "ada")
    assert again.exit_code == 1
    assert "rotate ada" in again.output
    assert printed("users", "add", "ada", "--replace")["id"] == first["id"]


def test_a_wrong_settings_file_ends_with_2(data_dir: Path, tmp_path: Path) -> None:
    """It is something that was typed, too."""
    file = tmp_path / "server.toml"
    file.write_text("port = ")
    for command in (("serve",), ("users", "list")):
        result = run(*command, "--config", str(file))
        assert result.exit_code == 2
        assert str(file) in result.output


def test_a_flag_chooses_the_data_directory(data_dir: Path, tmp_path: Path) -> None:
    """It beats the environment."""
    elsewhere = tmp_path / "elsewhere"
    assert run("users", "add", "ada", "--data-dir", str(elsewhere)).exit_code == 0
    assert (elsewhere / "users.sqlite").exists()
    assert not data_dir.exists()


def test_it_knows_its_version() -> None:
    """The one of the installed distribution."""
    assert run("--version").stdout.strip().endswith(VERSION)


def test_administrators_are_added_promoted_and_demoted(data_dir: Path) -> None:
    """And the list says who is one."""
    printed("users", "add", "ada", "--admin")
    printed("users", "add", "bob")
    assert run("users", "list").stdout == "ada (administrator)\nbob\n"
    assert run("users", "promote", "bob").exit_code == 0
    assert run("users", "demote", "ada").exit_code == 0
    assert [(u["name"], u["admin"]) for u in printed("users", "list")] == [
        ("ada", False),
        ("bob", True),
    ]
    unknown = run("users", "promote", "nobody")
    assert unknown.exit_code == 1
    assert "no user named nobody" in unknown.stderr


def test_stats_without_a_server_say_what_is_missing(data_dir: Path) -> None:
    """A wrong span is told apart from a log that is not there."""
    missing = run("stats")
    assert missing.exit_code == 1
    assert "no call log" in missing.stderr
    wrong = run("stats", "--since", "yesterday")
    assert wrong.exit_code == 1
    assert "24h" in wrong.stderr


@asynchronous
async def test_calls_are_found_by_the_name_of_their_user(data_dir: Path) -> None:
    """Also those of one who was removed, by the id."""
    ada, bob = printed("users", "add", "ada"), printed("users", "add", "bob")
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
    assert printed("calls", "--user", "ada")["request"] == "for ada"
    run("users", "remove", "ada")
    assert printed("calls", "--user", ada["id"])["request"] == "for ada"
    assert "No matching calls" in run("calls", "--user", "nobody").stdout
    assert "No matching calls" in run("calls", "--since", "5s").stdout
    assert len(run("calls").stdout.splitlines()) == 3
