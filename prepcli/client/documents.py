"""Text files given on the command line or in a form: job descriptions, resumes and answers."""

import io
import re
from pathlib import Path

from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_ANSWER, MAX_DOCUMENT

__all__ = ["answer_text", "read_answers", "read_document"]

MAX_ANSWERS_BYTES = 1024 * 1024
"""Maximum size in bytes of a file of answers."""

_ENDS = re.compile(r"\A[\s\ufeff\x1a]+|[\s\ufeff\x1a]+\Z")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def read_document(file: Path) -> str:
    """Return the text of a job description or a resume.

    Raises DocumentError if the file cannot be read, is not text, is empty or is too long.
    """
    # UTF-8 encodes a code point in at most four bytes.
    text = _read_text(file, max_bytes=MAX_DOCUMENT * 4)
    if len(text) > MAX_DOCUMENT:
        raise DocumentError(f"{file} is longer than {MAX_DOCUMENT:,} characters. Shorten it.")
    if not text.strip():
        raise DocumentError(f"{file} is empty. Choose another file.")
    return text


def read_answers(file: Path) -> tuple[str, ...]:
    """Return the answers in a text file: one per line, without blank lines. Raises DocumentError if
    the file cannot be used."""
    # Only CR, LF and CRLF end a line: a form feed or U+2028 is part of an answer.
    lines = io.StringIO(_read_text(file, max_bytes=MAX_ANSWERS_BYTES), newline=None)
    answers = tuple(text for line in lines if (text := answer_text(line)))
    if not answers:
        raise DocumentError(f"{file} contains no answers. Write one answer per line.")
    for number, answer in enumerate(answers, 1):
        if len(answer) > MAX_ANSWER:
            raise DocumentError(
                f"Answer {number} in {file} is longer than {MAX_ANSWER:,} characters. Shorten it."
            )
    return answers


def answer_text(line: str) -> str:
    """Return a line of answers without white space, byte order marks and DOS end-of-file characters
    at its ends, and with U+FFFD for each byte that could not be decoded."""
    return _LONE_SURROGATE.sub("\ufffd", _ENDS.sub("", line))


def _read_text(file: Path, *, max_bytes: int) -> str:
    """Return the text of a UTF-8 file with or without a byte order mark. Raises DocumentError if
    the file cannot be read, is not text or exceeds `max_bytes`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except IsADirectoryError:
        raise DocumentError(f"{file} is a folder. Choose a text file.") from None
    except OSError as error:
        raise DocumentError(
            f"Cannot read {file}: {error.strerror}. Check the path and the file's permissions."
        ) from None
    if len(data) > max_bytes:
        raise DocumentError(f"{file} is larger than {max_bytes:,} bytes. Shorten it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DocumentError(
            f"{file} is not a UTF-8 text file. Save it as UTF-8 text, such as .txt or .md."
        )
    return text
