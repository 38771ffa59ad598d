"""Files given on the command line or in a form: job descriptions, resumes and answers."""

import asyncio
import io
from pathlib import Path

from msgspec import Struct

from prepcli.client.document_process import parse_document
from prepcli.client.encodings import DecodedText, find_declared_encoding, replace_surrogates
from prepcli.client.file_formats import UnreadableDocument, is_pdf, is_zip, read_text
from prepcli.client.signals import run_until_signal
from prepcli.client.web_pages import is_html, is_mime_archive
from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_ANSWER, MAX_DOCUMENT

__all__ = [
    "Document",
    "answer_text",
    "extract_document",
    "read_answers",
    "read_document",
    "read_document_bytes",
]

MAX_FILE_BYTES = 20 * 1024 * 1024
"""Maximum size in bytes of a document's file; web pages and PDF documents are mostly not text."""

MAX_ANSWERS_BYTES = 1024 * 1024
"""Maximum size in bytes of a file of answers."""

_ENDS = "\ufeff\x1a" + "".join(filter(str.isspace, map(chr, range(0x3001))))


class Document(Struct, frozen=True):
    """Text of a job description or a resume."""

    text: str
    note: str = ""
    """Sentence about a guess that the user should check; empty if there was none."""


def read_document(file: Path) -> Document:
    """Return the text of a job description or a resume, as `extract_document` does, without an
    event loop. Signals end the reading.

    Raises DocumentError if the file cannot be read, is in another format, is empty or is too long.
    """
    return run_until_signal(extract_document(file, read_document_bytes(file)))


def read_document_bytes(file: Path) -> bytes:
    """Return the content of the file of a document. Blocks while a pipe is silent. Raises
    DocumentError if the file cannot be read or is too large."""
    return _read_bytes(file, MAX_FILE_BYTES)


async def extract_document(file: Path, data: bytes) -> Document:
    """Return the text in `data`, the content of `file`: text, Markdown, HTML, a saved web page, PDF
    or DOCX.

    Raises DocumentError if the content is in another format, is empty, is too long or takes too
    long to read.
    """
    suffix = file.suffix.lower()
    try:
        decoded = await asyncio.to_thread(_read_plain_text, data, suffix)
        if decoded is None:
            decoded = await parse_document(data, suffix)
    except UnreadableDocument as error:
        raise DocumentError(f"{file} {error}") from None
    if len(decoded.text) > MAX_DOCUMENT:
        raise DocumentError(f"{file} is longer than {MAX_DOCUMENT:,} characters. Shorten it.")
    if not any(c.isprintable() and not c.isspace() for c in decoded.text):
        raise DocumentError(f"{file} is empty. Choose another file.")
    return Document(decoded.text, _describe_guess(file, decoded))


def _read_plain_text(data: bytes, suffix: str) -> DecodedText | None:
    """Return the content of a text file, or None if the file needs a parser. Raises
    UnreadableDocument if the file is in a format that is not read."""
    if is_pdf(data) or is_zip(data) or is_mime_archive(data) or find_declared_encoding(data):
        return None
    decoded = read_text(data)
    return None if is_html(decoded.text, suffix) else decoded


def _describe_guess(file: Path, decoded: DecodedText) -> str:
    if decoded.guess:
        return (
            f"{file} is not UTF-8 and was read as {decoded.guess}. "
            "If letters are wrong, save it as UTF-8."
        )
    if decoded.damaged:
        return (
            f"{file} is not entirely UTF-8: {decoded.damaged} characters were replaced by \ufffd."
        )
    return ""


def read_answers(file: Path) -> tuple[str, ...]:
    """Return the answers in a text file: one per line, without blank lines. Raises DocumentError if
    the file cannot be used."""
    try:
        text = read_text(_read_bytes(file, MAX_ANSWERS_BYTES)).text
    except UnreadableDocument as error:
        raise DocumentError(f"{file} {error}") from None
    # Only CR, LF and CRLF end a line: a form feed or U+2028 is part of an answer.
    lines = io.StringIO(text, newline=None)
    answers = tuple(answer for line in lines if (answer := answer_text(line)))
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
    return replace_surrogates(line.strip(_ENDS))


def _read_bytes(file: Path, max_bytes: int) -> bytes:
    """Return the content of a file. Raises DocumentError if the file cannot be read or exceeds
    `max_bytes`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except IsADirectoryError:
        raise DocumentError(f"{file} is a folder. Choose a file.") from None
    except OSError as error:
        raise DocumentError(
            f"Cannot read {file}: {error.strerror}. Check the path and the file's permissions."
        ) from None
    if len(data) > max_bytes:
        raise DocumentError(f"{file} is larger than {max_bytes:,} bytes. Shorten it.")
    return data
