"""`prep`: the commands. What a screen or a microphone needs is imported only when it is needed."""

import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn, TextIO

import click
import msgspec
import stamina.instrumentation

from prepcli import config, credentials, paths
from prepcli.client.documents import read_answers, read_document
from prepcli.client.handshake import is_loopback
from prepcli.client.rest import RestClient
from prepcli.client.session import Session, SessionOptions
from prepcli.client.signals import run_until_signal
from prepcli.errors import NotFound, PrepError, UsageError
from prepcli.headless.answers import (
    Answer,
    AnswerQueue,
    DescriptorReader,
    RecordedAnswer,
    TypedAnswer,
)
from prepcli.headless.conversation import Conversation, choose_interview
from prepcli.headless.export import markdown, printable, spoken_answer_lines
from prepcli.headless.output import JsonOutput, Output, PlainOutput
from prepcli.local_server.sessions import open_session
from prepserver.wire.protocol import Interview, InterviewSpec, InterviewType, Level, Message, Source
from prepserver.wire.rest import MessageList, SpokenAnswer

__all__ = ["cli", "main"]

FILE = click.Path(path_type=Path)


class _Line(click.ParamType[str]):
    """A role or a company: something, and not a whole advertisement."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        line = " ".join(value.split())
        if not 1 <= len(line) <= MAX_LINE:
            self.fail(f"it has 1 to {MAX_LINE} characters.", param, ctx)
        return line


MAX_LINE = 200
"""Code points of a role or a company."""

LINE = _Line()

server_option = click.option(
    "--server",
    metavar="URL",
    envvar="PREP_SERVER",
    show_envvar=True,
    help="A server you are logged in to. Without it, prep starts one on this machine.",
)


class _InterviewCommand(click.Command):
    """`--audio a.wav b.wav` means `--audio a.wav --audio b.wav`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        taking = False
        for position, arg in enumerate(args):
            if arg.startswith("-") and arg != "-":
                taking = arg == "--audio" or arg.startswith("--audio=")
            elif taking and args[position - 1] != "--audio":
                spread.append("--audio")
            spread.append(arg)
        return super().parse_args(ctx, spread)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    importlib.metadata.version("prep-interview"), "--version", message="prep %(version)s"
)
def cli() -> None:
    """A mock interviewer that lives in the terminal.

    Exit codes: 0 done, 2 wrong use, 3 the server cannot be reached, 4 not authorised,
    5 the allowance of model requests is used up, 6 a model failed, 130 interrupted.
    """
    # Warnings about retries would land in the middle of the screen or of the JSON.
    logging.getLogger().addHandler(logging.NullHandler())
    stamina.instrumentation.set_on_retry_hooks([])


# --- prep interview ---------------------------------------------------------------------------


@cli.command(cls=_InterviewCommand)
@server_option
@click.option(
    "--role", type=LINE, metavar="R", help="What you apply for.  [default: Software Engineer]"
)
@click.option("--company", type=LINE, metavar="C", help="Where you apply.")
@click.option("--type", "kind", type=click.Choice([each.value for each in InterviewType]))
@click.option("--level", type=click.Choice([each.value for each in Level]))
@click.option("--questions", type=click.IntRange(1, 30), help="How many.  [default: 5]")
@click.option("--jd", type=FILE, metavar="FILE", help="The job description, a text file.")
@click.option("--resume", type=FILE, metavar="FILE", help="Your resume, a text file.")
@click.option("--resume-last", is_flag=True, help="Go on with the interview you were last in.")
@click.option("--id", "interview_id", metavar="ID", help="Go on with this interview.")
@click.option(
    "--audio",
    type=FILE,
    metavar="FILE...",
    multiple=True,
    help="Answer with recordings, in order. May be repeated.",
)
@click.option(
    "--answers", type=FILE, metavar="FILE", help="Then answer with the lines of a text file."
)
@click.option("--plain", is_flag=True, help="Print the conversation as lines; type the answers.")
@click.option("--json", "as_json", is_flag=True, help="Print what the server says as JSON lines.")
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
    """Be interviewed.

    Opens a screen on a terminal. Without one, or with --plain, --json, --audio or --answers, the
    conversation is printed and answers are read from the files and then from what you type; when
    there are no more, the interview is ended.
    """
    asked = {
        "role": role,
        "company": company,
        "type": kind and InterviewType(kind),
        "level": level and Level(level),
        "questions": questions,
        "job_description": jd and read_document(jd),
        "resume": resume and read_document(resume),
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if interview_id is not None and resume_last:
        raise click.UsageError("--id and --resume-last both name the interview: give one.")
    if asked and (interview_id is not None or resume_last):
        raise click.UsageError("An interview that you go on with keeps its role and questions.")
    spec = msgspec.convert(asked, InterviewSpec)
    options = SessionOptions(
        server=None if server is None else config.normalise_url(server),
        spec=spec,
        start_new=bool(asked),
        interview_id=interview_id,
        resume_last=resume_last,
    )
    prepared = _prepared(audio, answers)
    screen = (
        not (plain or as_json or prepared) and _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
    )
    if screen:
        from prepcli.tui.app import run_app  # Textual is a quarter of a second

        sys.exit(run_app(options))
    # A script that brings its answers has said all; otherwise they are typed or piped in.
    more = None if prepared and not _is_terminal(sys.stdin) else DescriptorReader(0)
    output: Output
    if as_json:
        output = JsonOutput(sys.stdout, sys.stderr)
    else:
        output = PlainOutput(sys.stdout, sys.stderr, live=_is_terminal(sys.stdout))
    run_until_signal(_converse(options, AnswerQueue(prepared, more), output))


def _prepared(audio: tuple[Path, ...], answers: Path | None) -> list[Answer]:
    """Everything is read before anything is started. Raises UsageError."""
    prepared: list[Answer] = []
    if audio:
        from prepcli.audio.files import read_audio  # numpy is a tenth of a second

        prepared += [RecordedAnswer(file.name, read_audio(file)) for file in audio]
    if answers is not None:
        prepared += [TypedAnswer(text) for text in read_answers(answers)]
    return prepared


async def _converse(options: SessionOptions, answers: AnswerQueue, output: Output) -> None:
    began = ""
    try:
        async with _session(options, output.note) as session:
            began = await choose_interview(session, options)
            room = session.room("interview", began, on_frame=output.frame)
            await Conversation(room, answers, output).run()
    except BaseException as error:
        if began and not isinstance(error, UsageError):
            where = f" --server {options.server}" if options.server else ""
            output.note(f"the interview is kept; go on with: prep interview --id {began}{where}")
        raise


# --- prep login, prep logout ------------------------------------------------------------------


@cli.command()
@click.argument("url")
@click.option(
    "--insecure-file",
    type=FILE,
    metavar="PATH",
    help="Keep the access key in this file instead of the system's keyring.",
)
def login(url: str, insecure_file: Path | None) -> None:
    """Log in to a server: asks for the access key that its keeper gave you."""
    address = config.normalise_url(url)
    if address.startswith("http://") and not is_loopback(address):
        click.echo("Note: over http:// everybody on the way can read your key.", err=True)
    key = os.environ.get(credentials.ACCESS_KEY_VARIABLE, "").strip()
    key = key or click.prompt("Access key", hide_input=True, err=True).strip()

    async def check() -> None:
        async with RestClient(address, key) as rest:
            await rest.get_room_token()

    run_until_signal(check())
    credentials.save_access_key(address, key, insecure_file)
    click.echo(f"Logged in to {address}.", err=True)


@cli.command()
@click.argument("url", required=False)
def logout(url: str | None) -> None:
    """Forget the access key of a server, or of all servers."""
    known = [server.url for server in config.load(paths.settings_file()).servers]
    urls = known if url is None else [config.normalise_url(url)]
    for each in urls:
        if not credentials.delete_access_key(each):
            raise UsageError(f"You are not logged in to {each}.")
        click.echo(f"Logged out of {each}.", err=True)
    if not urls:
        click.echo("You are not logged in anywhere.", err=True)


# --- prep list, show, export ------------------------------------------------------------------


@cli.command("list")
@server_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_interviews(server: str | None, as_json: bool) -> None:
    """List your interviews."""

    async def fetch() -> list[Interview]:
        async with _session(_to(server), _note, wait_for_models=False) as session:
            return await session.rest.list_interviews()

    interviews = run_until_signal(fetch())
    if as_json:
        click.echo(msgspec.json.encode({"interviews": interviews}))
        return
    for each in interviews:
        done = f"{each.answered}/{each.questions}"
        click.echo(printable(f"{each.id}  {each.status:<9}  {done:>5}  {each.title}"))
    if not interviews:
        click.echo("No interviews yet. Begin one: prep interview", err=True)


@cli.command()
@server_option
@click.argument("interview_id", metavar="ID")
@click.option("--heard", is_flag=True, help="Print how spoken answers were heard, and when.")
def show(server: str | None, interview_id: str, heard: bool) -> None:
    """Print an interview."""
    if heard:
        for message, speech in run_until_signal(_fetch_heard(server, interview_id)):
            click.echo(spoken_answer_lines(message, speech), nl=False)
        return
    found, said = run_until_signal(_fetch(server, interview_id))
    click.echo(markdown(found, said.messages), nl=False)


@cli.command()
@server_option
@click.argument("interview_id", metavar="ID")
@click.option("--format", "form", type=click.Choice(["md", "json"]), default="md")
@click.option("--output", type=FILE, metavar="FILE", help="Write here, not to the terminal.")
def export(server: str | None, interview_id: str, form: str, output: Path | None) -> None:
    """Write an interview as Markdown or JSON."""
    found, said = run_until_signal(_fetch(server, interview_id))
    if form == "md":
        data = markdown(found, said.messages).encode()
    else:
        whole = {"interview": found, "messages": said.messages}
        data = msgspec.json.format(msgspec.json.encode(whole)) + b"\n"
    if output is None:
        click.echo(data, nl=False)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.") from None


async def _fetch(server: str | None, interview_id: str) -> tuple[Interview, MessageList]:
    async with _session(_to(server), _note, wait_for_models=False) as session:
        found = await session.rest.get_interview(interview_id)
        return found, MessageList(await session.rest.get_messages(interview_id))


async def _fetch_heard(server: str | None, interview_id: str) -> list[tuple[Message, SpokenAnswer]]:
    """The spoken answers, with what is known of how they were heard."""
    found = []
    async with _session(_to(server), _note, wait_for_models=False) as session:
        for message in await session.rest.get_messages(interview_id):
            if message.source is Source.SPEECH:
                # An answer of before this was kept has none.
                with contextlib.suppress(NotFound):
                    speech = await session.rest.get_spoken_answer(interview_id, message.id)
                    found.append((message, speech))
    return found


# --- Shared -----------------------------------------------------------------------------------


def _to(server: str | None) -> SessionOptions:
    return SessionOptions(server=None if server is None else config.normalise_url(server))


@contextlib.asynccontextmanager
async def _session(
    options: SessionOptions, note: Callable[[str], None], *, wait_for_models: bool = True
) -> AsyncIterator[Session]:
    session = await open_session(options, note, wait_for_models=wait_for_models)
    try:
        yield session
    finally:
        await session.close()


def _note(line: str) -> None:
    click.echo(f"· {line}", err=True)


def _is_terminal(stream: TextIO | None) -> bool:
    """A stream is None when prep was started with it closed."""
    return stream is not None and stream.isatty()


def main() -> NoReturn:
    """Run the command; errors are a sentence on standard error and an exit code."""
    try:
        code = cli(prog_name="prep", standalone_mode=False)
    except PrepError as error:
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 130
    sys.exit(code)
