"""Files of text that a person names: job descriptions, resumes, answers."""

from pathlib import Path

from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_ANSWER, MAX_DOCUMENT

__all__ = ["read_answers", "read_document"]

MAX_ANSWERS_BYTES = 1024 * 1024


def read_document(file: Path) -> str:
    """The text of a job description or a resume. Raises DocumentError."""
    text = _read(file, MAX_DOCUMENT * 4)
    if len(text) > MAX_DOCUMENT:
        raise DocumentError(f"{file} is longer than {MAX_DOCUMENT:,} characters: shorten it.")
    if not text.strip():
        raise DocumentError(f"{file} is empty.")
    return text


def read_answers(file: Path) -> tuple[str, ...]:
    """One answer a line; blank lines are skipped. Raises DocumentError."""
    lines = (line.strip() for line in _read(file, MAX_ANSWERS_BYTES).splitlines())
    answers = tuple(line for line in lines if line)
    if not answers:
        raise DocumentError(f"{file} holds no answers: write one a line.")
    for number, answer in enumerate(answers, 1):
        if len(answer) > MAX_ANSWER:
            raise DocumentError(
                f"Answer {number} in {file} is longer than {MAX_ANSWER:,} characters: shorten it."
            )
    return answers


def _read(file: Path, limit: int) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except IsADirectoryError:
        raise DocumentError(f"{file} is a folder, not a text file.") from None
    except OSError as error:
        raise DocumentError(f"{file} cannot be read: {error.strerror}.") from None
    if len(data) > limit:
        raise DocumentError(f"{file} is longer than {limit:,} bytes: shorten it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DocumentError(f"{file} is not text: save it as UTF-8 text, such as .txt or .md.")
    return text
