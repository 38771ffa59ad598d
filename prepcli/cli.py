"""The command line of `prep`.

Screens, the microphone, HTTP and WebSockets are imported only where they are used, so that short
commands start quickly.
"""

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from prepcli import config, credentials, paths
from prepcli.client.documents import read_answers, read_document
from prepcli.client.options import SessionOptions
from prepcli.client.signals import run_until_signal
from prepcli.errors import NotFound, PrepError, UsageError
from prepcli.headless.answers import Answer, AnswerQueue, RecordedAnswer, TypedAnswer
from prepcli.headless.export import markdown, spoken_answer_lines
from prepcli.headless.output import Output
from prepcli.headless.streams import confirm_fetch, find_screen_obstacle, open_streams
from prepcli.local_server.reader import open_reader
from prepcli.model_commands import models
from prepcli.terminal_text import escape_json, one_line, printable
from prepcli.tui.environment import remove_textual_settings
from prepserver.arguments import TEXT
from prepserver.standard_streams import run_command
from prepserver.wire.limits import MAX_COMPANY, MAX_QUESTIONS, MAX_ROLE
from prepserver.wire.protocol import Interview, InterviewSpec, InterviewType, Level, Message, Source
from prepserver.wire.rest import MessageList, SpokenAnswer

__all__ = ["cli", "main"]


class _FileName(click.ParamType[Path]):
    """Parameter type for a path. A leading `~` is expanded, which shells do not do in
    `--jd=~/jd.txt`, and `-` stands for a standard stream."""

    name = "file"

    def __init__(self, stream: str) -> None:
        """`stream` is the path that `-` stands for."""
        self._stream = stream

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not value:
            self.fail("The name of the file is empty.", param, ctx)
        try:
            return Path(self._stream if value == "-" else value).expanduser()
        except RuntimeError:  # no such user: the name is meant literally
            return Path(value)


FILE = _FileName("/dev/stdin")
OUTPUT = Path("-")

_MAX_KEY_LINE = 4096
"""Number of characters after which reading an access key from standard input stops."""


class _BoundedText(click.ParamType[str]):
    """Parameter type for text of 1 to `max_length` code points; runs of white space become one
    space."""

    name = "text"

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = " ".join(TEXT.convert(value, param, ctx).split())
        if not 1 <= len(text) <= self._max_length:
            self.fail(f"The text must have 1 to {self._max_length} characters.", param, ctx)
        return text


server_option = click.option(
    "--server",
    metavar="URL",
    type=TEXT,
    envvar="PREP_SERVER",
    show_envvar=True,
    help="Address of a server that you are logged in to.  [default: a local server]",
)


class _InterviewCommand(click.Command):
    """Command that accepts several files after one `--audio`, as in `--audio a.wav b.wav`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        expanded: list[str] = []
        in_audio = False
        for position, arg in enumerate(args):
            if arg.startswith("-") and arg != "-":
                in_audio = arg == "--audio" or arg.startswith("--audio=")
            elif in_audio and args[position - 1] != "--audio":
                expanded.append("--audio")
            expanded.append(arg)
        return super().parse_args(ctx, expanded)


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


cli.add_command(models)


# --- prep interview ---------------------------------------------------------------------------


@cli.command(cls=_InterviewCommand)
@server_option
@click.option(
    "--role",
    type=_BoundedText(MAX_ROLE),
    metavar="TEXT",
    help="The position you are applying for.  [default: Software Engineer]",
)
@click.option(
    "--company",
    type=_BoundedText(MAX_COMPANY),
    metavar="TEXT",
    help="The company you are applying to.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice([each.value for each in InterviewType]),
    help="The kind of questions.  [default: mixed]",
)
@click.option(
    "--level",
    type=click.Choice([each.value for each in Level]),
    help="The difficulty of the questions.  [default: mid]",
)
@click.option(
    "--questions",
    type=click.IntRange(1, MAX_QUESTIONS),
    help="The number of questions.  [default: 5]",
)
@click.option(
    "--jd",
    type=FILE,
    metavar="FILE",
    help="The job description: text, Markdown, HTML, PDF or DOCX.",
)
@click.option(
    "--resume", type=FILE, metavar="FILE", help="Your resume, in one of the same formats."
)
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
    role: str | None,
    company: str | None,
    kind: str | None,
    level: str | None,
    questions: int | None,
    jd: Path | None,
    resume: Path | None,
    resume_last: bool,
    interview_id: str | None,
    audio: tuple[Path, ...],
    answers: Path | None,
    plain: bool,
    as_json: bool,
) -> None:
    """Start or resume an interview.

    On a terminal, prep opens the full-screen app. Without a terminal, or with --plain, --json,
    --audio or --answers, prep prints the conversation and reads answers from the given files,
    then from standard input. With --audio or --answers, prep reads standard input only if it is a
    terminal. The interview ends when no answers are left.
    """
    given = {
        "role": role,
        "company": company,
        "type": kind and InterviewType(kind),
        "level": level and Level(level),
        "questions": questions,
        "job_description": jd and _read_document(jd),
        "resume": resume and _read_document(resume),
    }
    given = {name: value for name, value in given.items() if value is not None}
    if interview_id is not None and resume_last:
        raise click.UsageError("--id and --resume-last cannot be used together.")
    if given and (interview_id is not None or resume_last):
        raise click.UsageError(
            "--id and --resume-last resume an interview. They cannot be combined with options for "
            "a new one, such as --role."
        )
    spec = msgspec.convert(given, InterviewSpec)
    options = SessionOptions(
        server=_normalise(server),
        spec=spec,
        start_new=bool(given),
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
        _note(obstacle)
    with open_streams(prepared, as_json=as_json) as (queue, output):
        run_until_signal(_converse(options, queue, output))


def _read_document(file: Path) -> str:
    document = read_document(file)
    if document.note:
        _note(document.note)
    return document.text


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


# --- prep list, show, export ------------------------------------------------------------------


@cli.command("list")
@server_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_interviews(server: str | None, as_json: bool) -> None:
    """List your interviews."""

    async def fetch() -> list[Interview]:
        async with open_reader(_normalise(server)) as reader:
            return await reader.list_interviews()

    interviews = run_until_signal(fetch())
    if as_json:
        data = msgspec.json.encode({"interviews": interviews}).decode()
        print(escape_json(data, sys.stdout.encoding))
        return
    for each in interviews:
        progress = f"{each.answered}/{each.questions}"
        title = one_line(each.title)
        print(f"{printable(each.id)}  {each.status:<9}  {progress:>5}  {title}")
    if not interviews:
        print("No interviews yet. To start one: prep interview", file=sys.stderr)


@cli.command()
@server_option
@click.argument("interview_id", type=TEXT, metavar="ID")
@click.option(
    "--heard", is_flag=True, help="Print only the transcription of each spoken answer, with times."
)
def show(server: str | None, interview_id: str, heard: bool) -> None:
    """Print an interview as Markdown."""
    if heard:
        for message, answer in run_until_signal(_fetch_spoken_answers(server, interview_id)):
            print(spoken_answer_lines(message, answer), end="")
        return
    found, transcript = run_until_signal(_fetch_transcript(server, interview_id))
    print(markdown(found, transcript.messages), end="")


@cli.command()
@server_option
@click.argument("interview_id", type=TEXT, metavar="ID")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["md", "json"]),
    default="md",
    help="Format of the export: Markdown or JSON.  [default: md]",
)
@click.option(
    "--output",
    type=_FileName("-"),
    metavar="FILE",
    help="Write to this file instead of standard output.",
)
def export(server: str | None, interview_id: str, file_format: str, output: Path | None) -> None:
    """Export an interview as Markdown or JSON."""
    if output == OUTPUT:
        output = None
    found, transcript = run_until_signal(_fetch_transcript(server, interview_id))
    if file_format == "md":
        text = markdown(found, transcript.messages)
    else:
        document = {"interview": found, "messages": transcript.messages}
        text = escape_json(msgspec.json.format(msgspec.json.encode(document)).decode()) + "\n"
    if output is None and sys.stdout.isatty():
        print(text, end="")
        return
    data = text.encode()  # a file is UTF-8, whatever the encoding of the terminal
    if output is None:
        click.echo(data, nl=False)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"Cannot write {output}: {error.strerror}. Choose another file with --output."
        ) from None


async def _fetch_transcript(server: str | None, interview_id: str) -> tuple[Interview, MessageList]:
    async with open_reader(_normalise(server)) as reader:
        found = await reader.get_interview(interview_id)
        return found, MessageList(await reader.get_messages(interview_id))


async def _fetch_spoken_answers(
    server: str | None, interview_id: str
) -> list[tuple[Message, SpokenAnswer]]:
    """Return the spoken answers that have a stored transcription, each with its transcription."""
    answers = []
    async with open_reader(_normalise(server)) as reader:
        for message in await reader.get_messages(interview_id):
            if message.source is Source.SPEECH:
                # Answers from before transcriptions were stored have none.
                with contextlib.suppress(NotFound):
                    answer = await reader.get_spoken_answer(interview_id, message.id)
                    answers.append((message, answer))
    return answers


# --- Shared -----------------------------------------------------------------------------------


def _normalise(server: str | None) -> str | None:
    return None if server is None else config.normalise_url(server)


def _note(line: str) -> None:
    print(f"· {printable(line)}", file=sys.stderr)


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
