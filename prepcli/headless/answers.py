"""Answers in an interview without a screen: recordings, lines of a file, and typed lines."""

import asyncio
import codecs
import contextlib
import io
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct

from prepcli.client.documents import answer_text
from prepcli.errors import UsageError
from prepserver.wire.limits import MAX_ANSWER

__all__ = [
    "Answer",
    "AnswerQueue",
    "DescriptorReader",
    "LineSource",
    "RecordedAnswer",
    "TypedAnswer",
    "decode_rest",
]

MAX_LINE = 1024 * 1024
"""Number of characters after which a line without an end is rejected."""

MAX_LINES_AHEAD = 64
"""Maximum number of lines that are read before they are needed."""


class RecordedAnswer(Struct, frozen=True):
    """An answer from an audio file."""

    pcm: bytes
    """Audio as PCM16 little-endian, 16 kHz, mono."""


class TypedAnswer(Struct, frozen=True):
    """An answer given as text."""

    text: str


Answer = RecordedAnswer | TypedAnswer


class LineSource(Protocol):
    """A source of answers, one per line; the lines may arrive slowly."""

    interactive: bool
    """True if a person types the lines at a terminal."""

    async def next_line(self, draft: str = "", *, prompt: str = "") -> str | None:
        """Return the next line, or None after the last line. A person at a terminal edits `draft`;
        `prompt` asks that person for a command, which may be empty. Another source ignores both."""


class AnswerQueue:
    """Queue of the prepared answers in order, followed by the lines from a source."""

    def __init__(self, prepared: Iterable[Answer] = (), lines: LineSource | None = None) -> None:
        """`lines` supplies the answers that follow the prepared ones; None means that none
        follow."""
        self._prepared = deque(prepared)
        self._lines = lines

    @property
    def is_interactive(self) -> bool:
        """True if a person can type answers at a terminal."""
        return self._lines is not None and self._lines.interactive

    @property
    def next_is_interactive(self) -> bool:
        """True if a person has to type the next answer at a terminal."""
        return not self._prepared and self.is_interactive

    @property
    def remaining(self) -> int:
        """Number of prepared answers that have not been used."""
        return len(self._prepared)

    def put_back(self, answer: Answer) -> None:
        """Put an answer back at the front of the queue."""
        self._prepared.appendleft(answer)

    async def next_answer(self, draft: str = "") -> Answer | None:
        """Return the next answer, or None after the last answer. Blank lines are skipped.

        A person at a terminal checks and sends `draft` before further prepared answers are used.
        Raises UsageError for a line that is longer than `MAX_ANSWER` code points or not text.
        """
        if self._prepared and not (draft and self.is_interactive):
            return self._prepared.popleft()
        if self._lines is None:
            return None
        while (line := await self._lines.next_line(draft)) is not None:
            text = answer_text(line)
            if len(text) > MAX_ANSWER:
                raise _unusable(f"is longer than {MAX_ANSWER:,} characters")
            if "\0" in text:
                raise _unusable("contains a NUL character, so it is not text")
            if text:
                return TypedAnswer(text)
        return None

    async def next_command(self, prompt: str) -> str | None:
        """Return the command that a person types at `prompt`, which may be empty, or None if no
        person can type one or wants to."""
        if self._lines is None or not self._lines.interactive:
            return None
        return await self._lines.next_line(prompt=prompt)


class DescriptorReader:
    """A line source that reads a file descriptor, such as standard input. Lines end with LF, CR or
    CRLF.

    A thread reads the descriptor, because only a thread can read pipes, files and terminals alike
    without blocking the event loop. The thread is a daemon, so that prep can exit while the thread
    waits for input. The thread bypasses Python's buffer, whose lock a waiting thread would hold at
    exit.
    """

    interactive = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._thread: threading.Thread | None = None
        self._lines: asyncio.Queue[str | UsageError | None] = asyncio.Queue()
        self._space = threading.Semaphore(MAX_LINES_AHEAD)
        """Number of lines that may still be read ahead."""

    async def next_line(self, draft: str = "", *, prompt: str = "") -> str | None:
        """Return the next line without its line ending, or None after the last line. Raises
        UsageError if the descriptor cannot be read or a line does not end."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._read_lines, args=(loop,), daemon=True)
            self._thread.start()
        line = await self._lines.get()
        self._space.release()
        if isinstance(line, UsageError):
            raise line
        if line is None:
            self._lines.put_nowait(None)  # every later call returns None as well
        return line

    def _read_lines(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            for line in self._split_lines():
                self._space.acquire()
                loop.call_soon_threadsafe(self._lines.put_nowait, line)

    def _split_lines(self) -> Iterator[str | UsageError | None]:
        decoder: io.IncrementalNewlineDecoder | None = None
        incomplete = ""
        try:
            while data := os.read(self._descriptor, 65536):
                decoder = decoder or _create_decoder(data)
                *lines, incomplete = (incomplete + decoder.decode(data)).split("\n")
                yield from lines
                if len(incomplete) > MAX_LINE:
                    yield _unusable(f"is longer than {MAX_ANSWER:,} characters")
                    return
        except OSError as error:
            yield UsageError(
                f"Cannot read standard input: {error.strerror}. Redirect it from a text file."
            )
            return
        if decoder is not None:
            incomplete += decoder.decode(b"", final=True)
        if incomplete:
            yield incomplete
        yield None


def _create_decoder(start: bytes) -> io.IncrementalNewlineDecoder:
    """Return the decoder for text that begins with `start`: UTF-16 with a byte order mark,
    otherwise UTF-8, in which each invalid byte is taken as Windows-1252. Every line ending becomes
    LF."""
    utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if utf16 else "utf-8")
    return io.IncrementalNewlineDecoder(
        decoder("replace" if utf16 else _WINDOWS_1252), translate=True
    )


def _decode_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


_WINDOWS_1252 = "prep.windows-1252"
codecs.register_error(_WINDOWS_1252, _decode_windows_1252)


def decode_rest(text: str) -> str:
    """Return text in which the bytes that a stream could not decode, which are surrogates, are
    taken as UTF-8 or else as Windows-1252."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", _WINDOWS_1252)


def _unusable(problem: str) -> UsageError:
    return UsageError(
        f"The answer {problem}. The interview is saved; resume it with another answer."
    )
