"""The commands that print interviews: `prep list`, `show`, `export` and `agenda`.

HTTP is imported only where it is used, so that the commands start quickly.
"""

import codecs
import contextlib
import sys
from pathlib import Path

import click
import msgspec

from prepcli.arguments import FILE, FileName, normalise, server_option
from prepcli.client.options import SessionOptions
from prepcli.client.signals import run_until_signal
from prepcli.errors import NotFound, UsageError
from prepcli.headless.agenda import agenda_text
from prepcli.headless.export import markdown, spoken_answer_lines
from prepcli.headless.streams import confirm_fetch, print_note
from prepcli.local_server.reader import open_reader
from prepcli.terminal_text import escape_json, one_line, printable
from prepserver.arguments import TEXT
from prepserver.wire.agenda import Agenda, EditAgenda
from prepserver.wire.protocol import Interview, Message, Source
from prepserver.wire.rest import MessageList, SpokenAnswer

__all__ = ["agenda", "export", "list_interviews", "show"]

OUTPUT = Path("-")
"""Path that stands for standard output."""

MAX_AGENDA_FILE = 1024 * 1024
"""Maximum size in bytes of a file with an edited agenda, far more than an agenda needs."""


@click.command("list")
@server_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_interviews(server: str | None, as_json: bool) -> None:
    """List your interviews."""

    async def fetch() -> list[Interview]:
        async with open_reader(normalise(server)) as reader:
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


@click.command()
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


@click.command()
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
    type=FileName("-"),
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
    async with open_reader(normalise(server)) as reader:
        found = await reader.get_interview(interview_id)
        return found, MessageList(await reader.get_messages(interview_id))


async def _fetch_spoken_answers(
    server: str | None, interview_id: str
) -> list[tuple[Message, SpokenAnswer]]:
    """Return the spoken answers that have a stored transcription, each with its transcription."""
    answers = []
    async with open_reader(normalise(server)) as reader:
        for message in await reader.get_messages(interview_id):
            if message.source is Source.SPEECH:
                # Answers from before transcriptions were stored have none.
                with contextlib.suppress(NotFound):
                    answer = await reader.get_spoken_answer(interview_id, message.id)
                    answers.append((message, answer))
    return answers


@click.command()
@server_option
@click.argument("interview_id", type=TEXT, metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--set-file",
    type=FILE,
    metavar="FILE",
    help="Replace the planned topics with those in this JSON file.",
)
def agenda(server: str | None, interview_id: str, as_json: bool, set_file: Path | None) -> None:
    """Print the agenda of an interview, or replace its planned topics.

    The file contains {"topics": [...]}, with all topics that are still planned in their new order.
    A topic has an "id" of the agenda, or a "skill" or a "question" of its own, and "minutes".
    """
    if set_file is None:
        found = run_until_signal(_fetch_agenda(server, interview_id))
    else:
        found = run_until_signal(_edit_agenda(server, interview_id, _read_edit(set_file)))
    if as_json:
        print(escape_json(msgspec.json.encode(found).decode(), sys.stdout.encoding))
    elif found.topics:
        print(agenda_text(found), end="")
    else:
        print("The agenda is not planned yet.", file=sys.stderr)


def _read_edit(file: Path) -> EditAgenda:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_AGENDA_FILE + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Choose another file.") from None
    if len(data) > MAX_AGENDA_FILE:
        raise UsageError(f"{file} is larger than an agenda can be. Choose another file.")
    try:
        return msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=EditAgenda)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{file} is not an agenda: {error}. Start from the output of prep agenda ID --json."
        ) from None


async def _fetch_agenda(server: str | None, interview_id: str) -> Agenda:
    async with open_reader(normalise(server)) as reader:
        return await reader.get_agenda(interview_id)


async def _edit_agenda(server: str | None, interview_id: str, edit: EditAgenda) -> Agenda:
    from prepcli.local_server.sessions import open_session  # imports an HTTP client

    options = SessionOptions(server=normalise(server))
    async with await open_session(options, print_note, confirm_fetch) as session:
        return await session.rest.edit_agenda(interview_id, edit)
