"""The process that parses documents: `python -m prepcli.client.document_parser SUFFIX SIZE SECONDS
MEMORY`.

Documents come from strangers. A parser may need hours, exhaust the memory or crash; in a process of
its own, none of this reaches prep.

The process reads SIZE bytes. It writes the document's text as JSON, or the end of a sentence about
the document, and then exits with EXIT_UNREADABLE. It exits when its standard input ends, and so
does not outlive prep.
"""

import contextlib
import os
import resource
import sys

import msgspec

from prepcli.child_process import exit_with_parent, separate_output
from prepcli.client.encodings import DecodedText, replace_surrogates
from prepcli.client.file_formats import (
    COPY_TEXT,
    PASS_TEXT,
    UnreadableDocument,
    is_docx,
    is_pdf,
    read_docx,
    read_pdf,
    read_text,
)
from prepcli.client.web_pages import is_html, read_mime_archive, reduce_html
from prepserver.wire.limits import MAX_DOCUMENT

__all__ = ["EXIT_UNREADABLE", "answer", "parse"]

EXIT_UNREADABLE = 3
"""Exit code of the process if it wrote the end of a sentence."""

_OUT_OF_MEMORY = f"takes too much memory to read. {PASS_TEXT}"


def main() -> None:
    suffix, size, seconds, memory = sys.argv[1], *map(int, sys.argv[2:])
    output = os.fdopen(separate_output(), "wb")
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, memory)
    data = sys.stdin.buffer.read(size)
    exit_with_parent()
    code, result = answer(data, suffix)
    with contextlib.suppress(BrokenPipeError):
        output.write(result)
        output.flush()
    os._exit(code)  # destroying a large document takes long


def answer(data: bytes, suffix: str) -> tuple[int, bytes]:
    """Return the exit code and the output of the process for a document."""
    try:
        parsed = parse(data, suffix)
    except MemoryError:
        return EXIT_UNREADABLE, _OUT_OF_MEMORY.encode()
    except UnreadableDocument as error:
        return EXIT_UNREADABLE, str(error).encode()
    text = replace_surrogates(parsed.text)
    return 0, msgspec.json.encode(msgspec.structs.replace(parsed, text=text))


def _limit(resource_number: int, value: int) -> None:
    _, hard = resource.getrlimit(resource_number)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(OSError, ValueError):  # macOS does not limit the memory
        resource.setrlimit(resource_number, (value, hard))


def parse(data: bytes, suffix: str) -> DecodedText:
    """Return the text of a document in any of the formats that prep reads. `suffix` is the end of
    the file's name, such as `.md`. Raises UnreadableDocument."""
    if is_pdf(data):
        return DecodedText(read_pdf(data, MAX_DOCUMENT))
    if is_docx(data):
        return DecodedText(reduce_html(read_docx(data), MAX_DOCUMENT))
    decoded = read_mime_archive(data) or read_text(data)
    if not is_html(decoded.text, suffix):
        return decoded
    text = reduce_html(decoded.text, MAX_DOCUMENT)
    if not text and data.strip():
        raise UnreadableDocument(f"is a web page without visible text. {COPY_TEXT}")
    return msgspec.structs.replace(decoded, text=text)


if __name__ == "__main__":
    main()
