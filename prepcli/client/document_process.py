"""Parsing of documents in a process of its own, with limits of time and memory."""

import asyncio
import contextlib
import math
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import msgspec

from prepcli.client.document_parser import EXIT_UNREADABLE
from prepcli.client.encodings import DecodedText
from prepcli.client.file_formats import PASS_TEXT, UnreadableDocument

__all__ = ["parse_document"]

MAX_SECONDS = 20.0
"""Maximum number of seconds for parsing a document; a resume takes less than one."""

MAX_MEMORY = 1024**3
"""Maximum address space in bytes of the process, of which the parsers themselves need a tenth."""


async def parse_document(data: bytes, suffix: str) -> DecodedText:
    """Return the text of a document. `suffix` is the end of its file's name, such as `.md`.

    Raises UnreadableDocument also if a limit is reached. The process ends with this call.
    """
    limits = (math.ceil(MAX_SECONDS) + 1, MAX_MEMORY)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "prepcli.client.document_parser"),
            *(suffix, str(len(data)), *map(str, limits)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
        )
    except OSError as error:
        raise UnreadableDocument(
            f"cannot be read: no process can be started ({error.strerror}). {PASS_TEXT}"
        ) from None
    try:
        async with asyncio.timeout(MAX_SECONDS):
            output = await _exchange(process, data)
            code = await process.wait()
    except TimeoutError:
        code = -signal.SIGXCPU
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if code == EXIT_UNREADABLE:
        raise UnreadableDocument(output.decode())
    if code == -signal.SIGXCPU:
        raise UnreadableDocument(f"takes too long to read. {PASS_TEXT}")
    if code:
        raise UnreadableDocument(f"cannot be read: its parser failed. {PASS_TEXT}")
    return msgspec.json.decode(output, type=DecodedText)


async def _exchange(process: Process, data: bytes) -> bytes:
    """Send the document and return the output. The input stays open: its end is that of prep."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):  # the process has failed
        process.stdin.write(data)
        await process.stdin.drain()
    return await process.stdout.read()
