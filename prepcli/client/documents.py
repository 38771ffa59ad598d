"""Files given on the command line or in a form: job descriptions, resumes and answers."""

import io
import re
from pathlib import Path

from msgspec import Struct

from prepcli.client.encodings import DecodedText, decode_text, find_declared_encoding
from prepcli.client.file_formats import (
    COPY_TEXT,
    UnreadableDocument,
    describe_format,
    read_docx,
    read_pdf,
)
from prepcli.client.web_pages import is_html, read_mime_archive, reduce_html
from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_ANSWER, MAX_DOCUMENT

__all__ = ["Document", "answer_text", "read_answers", "read_document"]

MAX_FILE_BYTES = 20 * 1024 * 1024
"""Maximum size in bytes of a document's file; web pages and PDF documents are mostly not text."""

MAX_ANSWERS_BYTES = 1024 * 1024
"""Maximum size in bytes of a file of answers."""

_ENDS = "\ufeff\x1a" + "".join(filter(str.isspace, map(chr, range(0x3001))))
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Document(Struct, frozen=True):
    """Text of a job description or a resume."""

    text: str
    note: str = ""
    """Sentence about a guess that the user should check; empty if there was none."""


def read_document(file: Path) -> Document:
    """Return the text of a job description or a resume: text, Markdown, HTML, a saved web page,
    PDF or DOCX.

    Raises DocumentError if the file cannot be read, is in another format, is empty or is too long.
    """
    data = _read_bytes(file, MAX_FILE_BYTES)
    try:
        document = _read_format(file, data)
    except UnreadableDocument as error:
        raise DocumentError(f"{file} {error}") from None
    if len(document.text) > MAX_DOCUMENT:
        raise DocumentError(f"{file} is longer than {MAX_DOCUMENT:,} characters. Shorten it.")
    if not document.text.strip():
        raise DocumentError(f"{file} is empty. Choose another file.")
    return document


def _read_format(file: Path, data: bytes) -> Document:
    if b"%PDF-" in data[:1024]:
        return Document(read_pdf(data, MAX_DOCUMENT))
    if data.startswith(b"PK\x03\x04") and describe_format(data) is None:
        return Document(reduce_html(read_docx(data), MAX_DOCUMENT))
    decoded = read_mime_archive(data) or _decode(file, data)
    if not is_html(decoded.text, file.suffix.lower()):
        return Document(decoded.text, _describe_guess(file, decoded))
    text = reduce_html(decoded.text, MAX_DOCUMENT)
    if not text and data.strip():
        raise UnreadableDocument(f"is a web page without visible text. {COPY_TEXT}")
    return Document(text, _describe_guess(file, decoded))


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
    return _LONE_SURROGATE.sub("\ufffd", line.strip(_ENDS))


def _read_text(file: Path, *, max_bytes: int) -> str:
    """Return the text of a text file. Raises DocumentError if the file cannot be read, is not text
    or exceeds `max_bytes`."""
    return _decode(file, _read_bytes(file, max_bytes)).text


def _decode(file: Path, data: bytes) -> DecodedText:
    """Return the decoded text of a file. Raises DocumentError if the file is not text."""
    if description := describe_format(data):
        problem, advice = description
        raise DocumentError(f"{file} {problem}. {advice}")
    decoded = decode_text(data, find_declared_encoding(data))
    if decoded is None:
        raise DocumentError(f"{file} is not text, PDF or DOCX. {COPY_TEXT}")
    return decoded


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
