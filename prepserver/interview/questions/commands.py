"""`prep-server questions`: check question banks and list what would be asked."""

import os
import sys
from pathlib import Path

import click
import platformdirs

from prepserver.config import load
from prepserver.errors import PrepServerError
from prepserver.folders import parse_path
from prepserver.interview.questions.bank import Bank, Question, load_bank
from prepserver.interview.questions.bank_files import (
    add_bank_files,
    find_bank_files,
    read_bank_file,
)
from prepserver.interview.questions.similarity import find_similar
from prepserver.wire.limits import MAX_QUESTIONS, MAX_ROLE
from prepserver.wire.protocol import InterviewType, Level

__all__ = ["questions"]

LONG_QUESTION = 140
"""Length in characters from which a question is long to listen to."""

MAX_SKILLS = 6
"""Maximum number of a role's skills for which questions are listed."""


def _parse_paths(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Path, ...]:
    try:
        return tuple(parse_path(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"The file must be {error}.") from error


@click.group()
def questions() -> None:
    """Check question banks of your own and list what would be asked."""


@questions.command("check")
@click.argument("files", nargs=-1, callback=_parse_paths, metavar="[FILE]...")
def check_command(files: tuple[Path, ...]) -> None:
    """Check the question banks FILE, which may be folders.

    Without FILE, check the banks that the settings name, or those in your own folder. Exit with
    code 1 if a bank has a fault; warnings do not count.
    """
    faults = warnings = count = 0
    bank = load_bank()
    try:
        paths = find_bank_files(files or _own_banks())
    except PrepServerError as error:
        raise click.ClickException(error.message) from error
    for path in paths:
        problems, notes, bank, added = _check_file(path, bank)
        faults, warnings, count = faults + len(problems), warnings + len(notes), count + added
        for text in problems:
            click.echo(f"{path}: {text}")
        for text in notes:
            click.echo(f"{path}: Warning: {text}")
    click.echo(
        f"{len(paths)} files, {count} questions, {faults} faults, {warnings} warnings.", err=True
    )
    sys.exit(1 if faults else 0)


@questions.command("list")
@click.option("--role", default="Software Engineer", show_default=True, help="Role.")
@click.option(
    "--type", "type_", type=click.Choice([each.value for each in InterviewType]),
    default="mixed", show_default=True, help="Type of the interview.",
)  # fmt: skip
@click.option(
    "--level",
    type=click.Choice([each.value for each in Level]),
    default="mid",
    show_default=True,
    help="Level.",
)
@click.option(
    "--count", type=click.IntRange(1, MAX_QUESTIONS), default=8, show_default=True,
    help="Number of questions.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Another seed, other questions."
)
@click.option(
    "--bank", "banks", callback=_parse_paths, multiple=True,
    help="Question bank or folder to add; repeatable. By default those of the settings, or those "
    "in your own folder.",
)  # fmt: skip
def list_command(
    role: str, type_: str, level: str, count: int, seed: int, banks: tuple[Path, ...]
) -> None:
    """List the questions that an interview without documents would ask."""
    try:
        bank = add_bank_files(load_bank(), banks or _own_banks())
    except PrepServerError as error:
        raise click.ClickException(error.message) from error
    role = role[:MAX_ROLE]
    named = bank.find_skills(role)
    skills = list(dict.fromkeys((*named, *bank.typical_skills(role))))[:MAX_SKILLS]
    selected = bank.select_questions(
        InterviewType(type_), Level(level), skills, count, seed, role=role
    )
    for number, question in enumerate(selected, 1):
        click.echo(f"{number:2}. {question.text}  [{question.id}]")


def _own_banks() -> tuple[Path, ...]:
    """Return the banks that the settings name, or else the folder of the user's own banks if it
    exists."""
    if named := load({}).question_banks:
        return named
    folder = os.environ.get("PREP_CONFIG_DIR", "").strip()
    own = (Path(folder) if folder else platformdirs.user_config_path("prep")) / "questions"
    return (own,) if own.is_dir() else ()


def _check_file(path: Path, bank: Bank) -> tuple[list[str], list[str], Bank, int]:
    """Return the faults and the warnings of a file, the bank with its valid questions, and the
    number of these."""
    try:
        file = read_bank_file(path)
    except PrepServerError as error:
        return [error.message], [], bank, 0
    faults, known = list(file.faults), bank
    try:
        bank = bank.extend((), file.skills, file.families)
    except ValueError as error:
        faults.append(str(error))
    valid = []
    for question in file.questions:
        try:
            bank = bank.extend([question])
            valid.append(question)
        except ValueError as error:
            faults.append(str(error))
    return faults, _find_warnings(valid, known), bank, len(valid)


def _find_warnings(own: list[Question], known: Bank) -> list[str]:
    notes = [
        f"The question {one.id!r} asks for the same as {other.id!r}: {other.text}"
        for one, other in find_similar(own, known.questions)
    ]
    for question in own:
        if len(question.text) > LONG_QUESTION:
            notes.append(f"The question {question.id!r} is long to listen to. Shorten it.")
        if len(question.listen_for) < 3:
            notes.append(
                f"The question {question.id!r} names only two points in `listen_for`. Three show "
                "better what an answer lacks."
            )
    return notes
