"""Answers in an interview without a screen: recordings, lines of a file, and typed lines."""

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from prepcli.errors import UsageError
from prepserver.wire.limits import MAX_ANSWER

__all__ = [
    "Answer",
    "AnswerQueue",
    "DescriptorReader",
    "LineSource",
    "RecordedAnswer",
    "TypedAnswer",
]


class RecordedAnswer(Struct, frozen=True):
    """An answer from an audio file."""

    pcm: bytes
    """Audio as PCM16 little-endian, 16 kHz, mono."""


class TypedAnswer(Struct, frozen=True):
    """An answer given as text."""

    text: str
    echoed: bool = False
    """True if the text was typed at the terminal, which already shows it."""


Answer = RecordedAnswer | TypedAnswer


class LineSource(Protocol):
    """A source of answers, one per line; the lines may arrive slowly."""

    interactive: bool
    """True if a person types the lines at a terminal."""

    async def next_line(self) -> str | None:
        """Return the next line, or None after the last line."""


class AnswerQueue:
    """Queue of the prepared answers in order, followed by the lines from a source."""

    def __init__(self, prepared: Iterable[Answer] = (), lines: LineSource | None = None) -> None:
        """`lines` supplies the answers that follow the prepared ones; None means that none
        follow."""
        self._prepared = deque(prepared)
        self._lines = lines

    @property
    def next_is_interactive(self) -> bool:
        """True if a person has to type the next answer at a terminal."""
        return not self._prepared and self._lines is not None and self._lines.interactive

    @property
    def remaining(self) -> int:
        """Number of prepared answers that have not been used."""
        return len(self._prepared)

    def put_back(self, answer: Answer) -> None:
        """Put an answer back at the front of the queue."""
        self._prepared.appendleft(answer)

    async def next_answer(self) -> Answer | None:
        """Return the next answer, or None after the last answer. Blank lines are skipped.

        Raises UsageError for a line longer than `MAX_ANSWER` code points.
        """
        if self._prepared:
            return self._prepared.popleft()
        if self._lines is None:
            return None
        while (line := await self._lines.next_line()) is not None:
            if len(text := line.strip()) > MAX_ANSWER:
                raise UsageError(
                    f"The answer is too long: {len(text):,} characters; the maximum is "
                    f"{MAX_ANSWER:,}. The interview is saved; resume it with a shorter answer."
                )
            if text:
                return TypedAnswer(text, echoed=self._lines.interactive)
        return None


class DescriptorReader:
    """A line source that reads a file descriptor, such as standard input.

    A thread reads the descriptor, because only a thread can read terminals, pipes and files alike
    without blocking the event loop. The thread is a daemon, so that prep can exit while the thread
    waits for input. The thread bypasses Python's buffer, whose lock a waiting thread would hold at
    exit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.interactive = os.isatty(descriptor)
        self._thread: threading.Thread | None = None
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def next_line(self) -> str | None:
        """Return the next line without its line feed, or None after the last line."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._read_lines, args=(loop,), daemon=True)
            self._thread.start()
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)  # every later call returns None as well
        return line

    def _read_lines(self, loop: asyncio.AbstractEventLoop) -> None:
        incomplete = b""
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            while data := self._read_chunk():
                *lines, incomplete = (incomplete + data).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._lines.put_nowait, _decode_line(line))
            if incomplete:
                loop.call_soon_threadsafe(self._lines.put_nowait, _decode_line(incomplete))
            loop.call_soon_threadsafe(self._lines.put_nowait, None)

    def _read_chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except OSError:
            return b""


def _decode_line(line: bytes) -> str:
    return line.decode("utf-8", "replace")
