"""`prep-server`: flags -> Config -> run."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from prepserver.clock import SystemClock
from prepserver.config import load, open_data_dir
from prepserver.errors import PrepServerError
from prepserver.models.commands import models
from prepserver.wire.error_codes import ErrorCode

__all__ = ["main"]

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where users and interviews are kept."
)
CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file with settings; flags beat it.",
)


@click.group()
@click.version_option(package_name="prep-interview", prog_name="prep-server")
def cli() -> None:
    """Hold interviews and run the models for `prep`."""


cli.add_command(models)


@cli.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 takes any free port.  [default: 8400]")
@DATA_DIR
@CONFIG
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Written when connections are accepted: url, pid and version as JSON.",
)
@click.option(
    "--model", help="The interviewer: a catalogue name, a .gguf file, or openai:URL#name."
)
@click.option(
    "--stt-model", help="The ears: a catalogue name, a ggml .bin file, or openai:URL#name."
)
@click.option("--fallback", multiple=True, help="A model that steps in for a failed one.")
@click.option("--stt-engine", help="pywhispercpp or whispercpp.")
@click.option("--models-dir", type=click.Path(path_type=Path), help="Where models are kept.")
@click.option("--threads", type=int, help="Of each engine; 0 means one for each core.")
@click.option("--hint-after", type=float, help="Seconds before a hint.  [default: 180]")
@click.option("--rate-limit", type=int, help="Model requests of a user a day; 0 is no limit.")
@click.option("--rate-window", type=float, help="Seconds of the rate limit's window.")
@click.option("--scripted-delay", type=float, help="Seconds between the scripted model's words.")
@click.option("--log-level", help="debug, info, warning or error.")
def serve(file: Path | None, **flags: Any) -> None:
    """Serve interviews until told to stop."""
    from prepserver.serve import serve as run  # Litestar and uvicorn take a second to import

    typed = {name: value for name, value in flags.items() if value not in (None, ())}
    _or_fail(lambda: run(load(typed, file=file)))


@cli.group()
def users() -> None:
    """Who may use this server."""


@users.command("add")
@click.argument("name")
@DATA_DIR
@CONFIG
@click.option("--replace", is_flag=True, help="Give an existing user a new key.")
@click.option("--admin", is_flag=True, help="They may see the server's figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add_user(
    name: str,
    data_dir: Path | None,
    file: Path | None,
    replace: bool,
    admin: bool,
    as_json: bool,
) -> None:
    """Add a user and print the access key, once."""
    _with_users(
        data_dir, file, lambda u: _print_key(u.add(name, replace=replace, admin=admin), as_json)
    )


@users.command("rotate")
@click.argument("name")
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_user(name: str, data_dir: Path | None, file: Path | None, as_json: bool) -> None:
    """Give a user a new access key; the old one is refused from now on."""
    _with_users(data_dir, file, lambda u: _print_key(u.rotate(name), as_json))


@users.command("promote")
@click.argument("name")
@DATA_DIR
@CONFIG
def promote_user(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Make a user an administrator, who may see the server's figures."""
    _with_users(data_dir, file, lambda u: u.set_admin(name, True))


@users.command("demote")
@click.argument("name")
@DATA_DIR
@CONFIG
def demote_user(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Make an administrator a user like others."""
    _with_users(data_dir, file, lambda u: u.set_admin(name, False))


@users.command("remove")
@click.argument("name")
@DATA_DIR
@CONFIG
def remove_user(name: str, data_dir: Path | None, file: Path | None) -> None:
    """Refuse a user from now on; the interviews stay on disk."""
    _with_users(data_dir, file, lambda u: u.remove(name))


@users.command("list")
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_users(data_dir: Path | None, file: Path | None, as_json: bool) -> None:
    """Show who may use this server."""

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

    _with_users(data_dir, file, show)


@cli.command()
@click.option("--since", default="24h", show_default=True, help="How far back: 30m, 24h, 7d.")
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(since: str, data_dir: Path | None, file: Path | None, as_json: bool) -> None:
    """Show how the models did, also while a server runs: calls, failures, tokens, times."""
    from prepserver.telemetry.report import statistics_report  # SQLite

    def run() -> None:
        flags = {} if data_dir is None else {"data_dir": data_dir}
        config = load(flags, file=file)
        click.echo(
            statistics_report(config.data_dir, since, as_json=as_json, now=SystemClock().now())
        )

    _or_fail(run)


@cli.command()
@click.option("--since", default="24h", show_default=True, help="How far back: 30m, 24h, 7d.")
@click.option("--user", help="Of the user with this name.")
@click.option("--interview", default="", help="Of the interview with this id.")
@click.option("--purpose", default="", help="Such as question, hint or transcribe.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True)
@DATA_DIR
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all that is logged.")
def calls(
    since: str,
    user: str | None,
    interview: str,
    purpose: str,
    limit: int,
    data_dir: Path | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show single calls of the models from the log, the newest first."""
    from prepserver.telemetry.report import call_list  # SQLite

    def run() -> None:
        flags = {} if data_dir is None else {"data_dir": data_dir}
        folder = load(flags, file=file).data_dir
        text = call_list(
            folder,
            since,
            user="" if user is None else _id_of(folder, user),
            interview=interview,
            purpose=purpose,
            limit=limit,
            as_json=as_json,
            now=SystemClock().now(),
        )
        click.echo(text)

    _or_fail(run)


def _id_of(data_dir: Path, name: str) -> str:
    """A user's id; what is no name may be the id of one who was removed."""
    from prepserver.accounts.users import Users  # argon2

    path = data_dir / "users.sqlite"
    if not path.is_file():
        return name
    table = Users(path, SystemClock())
    try:
        return next((user.id for user in table.list() if user.name == name), name)
    finally:
        table.close()


def _with_users(folder: Path | None, file: Path | None, action: Any) -> None:
    from prepserver.accounts.users import Users  # argon2

    def run() -> None:
        flags = {} if folder is None else {"data_dir": folder}
        data_dir = open_data_dir(load(flags, file=file))
        table = Users(data_dir / "users.sqlite", SystemClock())
        try:
            action(table)
        finally:
            table.close()

    _or_fail(run)


def _print_key(new: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"id": new.id, "name": new.name, "key": new.key}))
    else:
        click.echo(f"Access key of {new.name}, shown only now:\n\n  {new.key}\n")


def _or_fail(action: Any) -> None:
    try:
        action()
    except PrepServerError as error:
        click.echo(f"prep-server: {error.message}", err=True)
        sys.exit(2 if error.code == ErrorCode.BAD_SETTING else 1)


def main() -> None:
    """Entry point of the command."""
    cli(prog_name="prep-server")
