"""Options of `prep interview` that describe a new interview."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from prepcli.arguments import FILE, BoundedText, Language
from prepcli.client.documents import read_document
from prepcli.headless.streams import print_note
from prepserver.wire.limits import MAX_COMPANY, MAX_ID, MAX_MINUTES, MAX_QUESTIONS, MAX_ROLE
from prepserver.wire.protocol import InterviewSpec, InterviewType, Level, Mode

__all__ = ["InterviewCommand", "read_spec", "spec_options"]

_F = TypeVar("_F", bound=Callable[..., Any])


class InterviewCommand(click.Command):
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


_OPTIONS = (
    click.option(
        "--role",
        type=BoundedText(MAX_ROLE),
        metavar="TEXT",
        help="The position you are applying for.  [default: Software Engineer]",
    ),
    click.option(
        "--company",
        type=BoundedText(MAX_COMPANY),
        metavar="TEXT",
        help="The company you are applying to.",
    ),
    click.option(
        "--type",
        type=click.Choice([each.value for each in InterviewType]),
        help="The kind of questions.  [default: mixed]",
    ),
    click.option(
        "--level",
        type=click.Choice([each.value for each in Level]),
        help="The difficulty of the questions.  [default: mid]",
    ),
    click.option(
        "--questions",
        type=click.IntRange(1, MAX_QUESTIONS),
        help="The number of questions.  [default: 5]",
    ),
    click.option(
        "--minutes",
        type=click.IntRange(1, MAX_MINUTES),
        help="The length of the interview in minutes.  [default: no limit]",
    ),
    click.option(
        "--mode",
        type=click.Choice([each.value for each in Mode]),
        help="practice gives hints and shows the agenda; real does neither.  [default: practice]",
    ),
    click.option(
        "--language",
        type=Language(),
        metavar="CODE",
        help="The language of the interview, such as de.  [default: en]",
    ),
    click.option(
        "--set",
        "model_set",
        type=BoundedText(MAX_ID),
        metavar="NAME",
        help="The set of models that holds the interview.  [default: the server's choice]",
    ),
    click.option(
        "--jd",
        "job_description",
        type=FILE,
        metavar="FILE",
        help="The job description: text, Markdown, HTML, PDF or DOCX.",
    ),
    click.option(
        "--resume", type=FILE, metavar="FILE", help="Your resume, in one of the same formats."
    ),
    click.option(
        "--agenda",
        "review_agenda",
        is_flag=True,
        default=None,
        help="Show the agenda before the start. On a terminal, you can edit it first.",
    ),
)
"""Options that are named like the fields of `InterviewSpec`. An option that was not given is
None."""


def spec_options(function: _F) -> _F:
    """Add the options that describe a new interview to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_spec(given: Mapping[str, Any]) -> tuple[InterviewSpec, bool]:
    """Return the specification of the new interview, and True if an option describes one.

    Raises click.UsageError for options that contradict each other, and DocumentError for a document
    that cannot be used.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    if fields.get("mode") == Mode.REAL and fields.get("review_agenda"):
        raise click.UsageError(
            "The agenda of a real interview is hidden. Leave out --agenda, or use --mode practice."
        )
    for name in ("job_description", "resume"):
        if name in fields:
            document = read_document(fields[name])
            if document.note:
                print_note(document.note)
            fields[name] = document.text
    return msgspec.convert(fields, InterviewSpec), bool(fields)
