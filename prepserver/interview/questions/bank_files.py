"""Question banks that users add as TOML files.

A file has the form of the packaged data: a list of `question` tables, each with its `type`, and
optionally `skills` and `families` that the questions name.
"""

import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.interview.questions.bank import Bank, Question
from prepserver.interview.questions.families import Family, parse_families
from prepserver.interview.questions.question import parse_question
from prepserver.interview.questions.skills import Skill, parse_skills
from prepserver.toml_files import read_toml
from prepserver.wire.error_codes import ErrorCode

__all__ = ["BankFile", "add_bank_files", "find_bank_files", "read_bank_file"]

MAX_FILE_BYTES = 2 * 1024 * 1024
"""Maximum size of one file in bytes, enough for about two thousand questions."""

MAX_FILES = 200
"""Maximum number of files in all."""

_KEYS = frozenset({"question", "skills", "families"})


class BankFile(Struct, frozen=True):
    """Content of one file."""

    path: Path
    questions: tuple[Question, ...] = ()
    skills: tuple[Skill, ...] = ()
    families: tuple[Family, ...] = ()
    faults: tuple[str, ...] = ()
    """Sentences that say what is wrong with the entries that could not be parsed."""


def add_bank_files(bank: Bank, paths: Iterable[Path]) -> Bank:
    """Return `bank` with the questions of the files and folders in `paths`.

    Raises BadRequest (code `bad_question_bank`) at the first file that cannot be used.
    """
    for path in find_bank_files(paths):
        file = read_bank_file(path)
        if file.faults:
            raise _bad_bank(path, file.faults[0])
        try:
            bank = bank.extend(file.questions, file.skills, file.families)
        except ValueError as error:
            raise _bad_bank(path, str(error)) from error
    return bank


def find_bank_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files in `paths` and the TOML files of the folders in `paths`, sorted by name.

    Raises BadRequest (code `bad_question_bank`) if a path does not exist, a folder cannot be read,
    or there are more than `MAX_FILES` files.
    """
    found: dict[Path, None] = {}
    for path in paths:
        try:
            if stat.S_ISDIR(path.stat().st_mode):
                files = sorted(each for each in path.iterdir() if each.suffix == ".toml")
                found.update(dict.fromkeys(each for each in files if each.name[0] != "."))
            else:
                found[path] = None
        except OSError as error:
            raise _bad_bank(
                path, f"{error.strerror}. Check the path and its permissions."
            ) from error
    if len(found) > MAX_FILES:
        raise _bad_bank(
            [*found][MAX_FILES],
            f"There are more than {MAX_FILES} files. Put several questions into one file.",
        )
    return list(found)


def read_bank_file(path: Path) -> BankFile:
    """Read one file. Entries that are wrong are left out and named in `faults`.

    Raises BadRequest (code `bad_question_bank`) if the file cannot be read as TOML.
    """
    try:
        data = read_toml(path, "the question bank", MAX_FILE_BYTES)
    except ValueError as error:
        raise BadRequest(str(error), code=ErrorCode.BAD_QUESTION_BANK) from error
    faults = [
        f"The key `{key}` is unknown. Remove it; the keys are question, skills and families."
        for key in data
        if key not in _KEYS
    ]
    entries = data.get("question", [])
    if not isinstance(entries, list):
        entries = [entries]
    if not data:
        faults.append("The file is empty. Write [[question]] and its fields, or remove the file.")
    questions = []
    for entry in entries:
        try:
            questions.append(parse_question(entry))
        except ValueError as error:
            faults.append(str(error))
    skills: Sequence[Skill] = ()
    families: Sequence[Family] = ()
    try:
        skills = parse_skills(data.get("skills", {}))
        families = parse_families(data.get("families", {}))
    except ValueError as error:
        faults.append(str(error))
    return BankFile(path, tuple(questions), tuple(skills), tuple(families), tuple(faults))


def _bad_bank(path: Path, reason: str) -> BadRequest:
    return BadRequest(
        f"Cannot use the question bank {path}: {reason}", code=ErrorCode.BAD_QUESTION_BANK
    )
