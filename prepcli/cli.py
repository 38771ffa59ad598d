"""The command line of `prep`.

Screens, the microphone, HTTP and WebSockets are imported only where they are used, so that short
commands start quickly.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from prepcli import config, credentials, paths
from prepcli.arguments import FILE, normalise, server_option
from prepcli.client.documents import read_answers
from prepcli.client.options import SessionOptions
from prepcli.client.signals import run_until_signal
from prepcli.errors import PrepError, UsageError
from prepcli.headless.answers import Answer, AnswerQueue, RecordedAnswer, TypedAnswer
from prepcli.headless.output import Output
from prepcli.headless.streams import (
    confirm_fetch,
    find_screen_obstacle,
    open_streams,
    print_note,
)
from prepcli.interview_commands import agenda, export, list_interviews, show
from prepcli.interview_options import InterviewCommand, read_spec, spec_options
from prepcli.model_commands import models
from prepcli.terminal_text import printable
from prepcli.tui.environment import remove_textual_settings
from prepserver.arguments import TEXT
from prepserver.standard_streams import run_command

__all__ = ["cli", "main"]

_MAX_KEY_LINE = 4096
"""Number of characters after which reading an access key from standard input stops."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="prep-interview", message="prep %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Practise job interviews in the terminal.

    Without a command, prep opens the full-screen app on a terminal, as `prep interview` does.

    \b
    Exit codes:
      0    success
      1    other failure
      2    invalid usage
      3    server unreachable
      4    not authorised
      5    allowance of model requests or budget used up
      6    model failure
      130  interrupted
      141  the reader of the output has ended
    """
    # Log messages would appear in the middle of a screen or of JSON output.
    logging.getLogger().addHandler(logging.NullHandler())
    if context.invoked_subcommand is not None:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        # A script that gives no command would wait for answers on its standard input.
        raise click.exceptions.NoArgsIsHelpError(context)
    with interview.make_context("interview", [], parent=context) as opened:
        interview.invoke(opened)


for each in (models, list_interviews, show, export, agenda):
    cli.add_command(each)


# --- prep interview ---------------------------------------------------------------------------


@cli.command(cls=InterviewCommand)
@server_option
@spec_options
@click.option("--resume-last", is_flag=True, help="Resume your most recent unfinished interview.")
@click.option(
    "--id", "interview_id", type=TEXT, metavar="ID", help="Resume the interview with this id."
)
@click.option(
    "--audio",
    type=FILE,
    metavar="FILE...",
    multiple=True,
    help="Answer with these recordings, in order. Can be repeated.",
)
@click.option(
    "--answers",
    type=FILE,
    metavar="FILE",
    help="Answer with the lines of a text file, after any recordings.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Print the conversation as text instead of opening the full-screen app.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the server's messages as JSON lines.")
def interview(
    server: str | None,
    resume_last: bool,
    interview_id: str | None,
    audio: tuple[Path, ...],
    answers: Path | None,
    plain: bool,
    as_json: bool,
    **described: Any,
) -> None:
    """Start or resume an interview.

    On a terminal, prep opens the full-screen app. Without a terminal, or with --plain, --json,
    --audio or --answers, prep prints the conversation and reads answers from the given files,
    then from standard input. With --audio or --answers, prep reads standard input only if it is a
    terminal. The interview ends when no answers are left.
    """
    if interview_id is not None and resume_last:
        raise click.UsageError("--id and --resume-last cannot be used together.")
    spec, start_new = read_spec(described)
    if start_new and (interview_id is not None or resume_last):
        raise click.UsageError(
            "--id and --resume-last resume an interview. They cannot be combined with options for "
            "a new one, such as --role."
        )
    options = SessionOptions(
        server=normalise(server),
        spec=spec,
        start_new=start_new,
        interview_id=interview_id,
        resume_last=resume_last,
    )
    prepared = _read_prepared_answers(audio, answers)
    if not (plain or as_json or prepared) and sys.stdin.isatty() and sys.stdout.isatty():
        obstacle = find_screen_obstacle(sys.stdout, os.environ)
        if not obstacle:
            remove_textual_settings(os.environ)
            from prepcli.tui.app import run_app  # importing Textual takes a quarter of a second

            sys.exit(run_app(options))
        print_note(obstacle)
    with open_streams(prepared, as_json=as_json) as (queue, output):
        run_until_signal(_converse(options, queue, output))


def _read_prepared_answers(audio: tuple[Path, ...], answers: Path | None) -> list[Answer]:
    """Return the answers in the given files. Called before a server is contacted or started, so
    that an unusable file is reported first.

    Raises UsageError if a file cannot be used.
    """
    prepared: list[Answer] = []
    if audio:
        from prepcli.audio.files import read_audio  # importing NumPy takes a tenth of a second

        prepared += [RecordedAnswer(read_audio(file)) for file in audio]
    if answers is not None:
        prepared += [TypedAnswer(text) for text in read_answers(answers)]
    return prepared


async def _converse(options: SessionOptions, answers: AnswerQueue, output: Output) -> None:
    from prepcli.headless.conversation import Conversation, choose_interview
    from prepcli.local_server.sessions import open_session

    interview_id = ""
    try:
        async with await open_session(options, output.note, confirm_fetch) as session:
            interview_id = await choose_interview(session, options)
            room = session.room("interview", interview_id, on_frame=output.write_frame)
            await Conversation(room, answers, output).run()
    except BaseException as error:
        if interview_id and not isinstance(error, UsageError):
            server = f" --server {options.server}" if options.server else ""
            output.note(
                f"the interview is saved; to resume it: prep interview --id {interview_id}{server}"
            )
        raise


# --- prep login, prep logout ------------------------------------------------------------------


@cli.command()
@click.argument("url", type=TEXT)
@click.option(
    "--insecure-file",
    type=FILE,
    metavar="PATH",
    help="Store the access key in this file instead of the system's keyring.",
)
def login(url: str, insecure_file: Path | None) -> None:
    """Log in to a server with the access key from your administrator."""
    from prepcli.client.rest import RestClient
    from prepserver.outbound import is_loopback

    address = config.normalise_url(url)
    if address.startswith("http://") and not is_loopback(address):
        print(
            "Warning: over http://, others on the network can read your access key. "
            "Use https:// if the server supports it.",
            file=sys.stderr,
        )
    key = os.environ.get(credentials.ACCESS_KEY_VARIABLE, "").strip()
    if not key and sys.stdin.isatty():
        key = click.prompt("Access key", hide_input=True, err=True).strip()
    key = credentials.require_sendable(
        key or sys.stdin.readline(_MAX_KEY_LINE).strip(), "The access key"
    )
    if not key:
        raise UsageError("No access key. Type it, pipe it to prep, or set PREP_ACCESS_KEY.")

    async def check_key() -> None:
        async with RestClient(address, key) as rest:
            await rest.get_room_token()

    run_until_signal(check_key())
    run_until_signal(credentials.save_access_key(address, key, insecure_file))
    print(f"Logged in to {address}.", file=sys.stderr)


@cli.command()
@click.argument("url", type=TEXT, required=False)
def logout(url: str | None) -> None:
    """Delete the stored access key of a server, or of all servers."""
    known = [server.url for server in config.load(paths.settings_file()).servers]
    urls = known if url is None else [config.normalise_url(url)]
    for each in urls:
        if not run_until_signal(credentials.delete_access_key(each)):
            raise UsageError(f"You are not logged in to {each}.")
        print(f"Logged out of {each}.", file=sys.stderr)
    if not urls:
        print("You are not logged in to any server.", file=sys.stderr)


# --- Main -------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command and exit. An error is printed on standard error and sets the exit code."""
    run_command(_run, prefix="Error")


def _run() -> None:
    try:
        code = cli(prog_name="prep", standalone_mode=False)
    except PrepError as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 130
    sys.exit(code)
