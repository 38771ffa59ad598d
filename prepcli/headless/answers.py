"""Where the answers of an interview without a screen come from: recordings, lines, the keyboard."""

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
    name: str
    """Of the file, to speak of it."""
    pcm: bytes
    """PCM16 little-endian, 16 kHz, mono."""


class TypedAnswer(Struct, frozen=True):
    text: str
    echoed: bool = False
    """The person sees it already, because they typed it here."""


Answer = RecordedAnswer | TypedAnswer


class LineSource(Protocol):
    """More answers, which may take their time."""

    interactive: bool
    """Whether a person types them right now."""

    async def next(self) -> str | None:
        """The next line; None after the last one."""


class AnswerQueue:
    """Prepared answers first, in order; then those of `lines`, if there are any."""

    def __init__(self, prepared: Iterable[Answer] = (), lines: LineSource | None = None) -> None:
        self._prepared = deque(prepared)
        self._lines = lines

    @property
    def will_ask(self) -> bool:
        """Whether the next answer is typed by a person right now."""
        return not self._prepared and self._lines is not None and self._lines.interactive

    @property
    def left(self) -> int:
        """Prepared answers that nobody has asked for."""
        return len(self._prepared)

    def put_back(self, answer: Answer) -> None:
        """Give it again next time."""
        self._prepared.appendleft(answer)

    async def next(self) -> Answer | None:
        """None when there are no more. Blank lines are skipped.

        Raises UsageError for a line of more than `MAX_ANSWER` code points: nothing is cut off.
        """
        if self._prepared:
            return self._prepared.popleft()
        if self._lines is None:
            return None
        while (line := await self._lines.next()) is not None:
            if len(text := line.strip()) > MAX_ANSWER:
                raise UsageError(
                    f"An answer of {len(text):,} characters is too long: the longest has "
                    f"{MAX_ANSWER:,}. The interview is kept; come back with a shorter one."
                )
            if text:
                return TypedAnswer(text, echoed=self._lines.interactive)
        return None


class DescriptorReader:
    """Lines of an open file, such as the standard input.

    A thread of its own reads it: a terminal, a pipe and a file have nothing else in common that
    would not block the event loop. It is a daemon, so that prep can end while it waits for a key,
    and it reads past Python's own buffer, whose lock it would still hold then.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.interactive = os.isatty(descriptor)
        self._thread: threading.Thread | None = None
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def next(self) -> str | None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._read, args=(loop,), daemon=True)
            self._thread.start()
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)  # the end stays the end
        return line

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = b""
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            while data := self._chunk():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._lines.put_nowait, _text(line))
            if rest:
                loop.call_soon_threadsafe(self._lines.put_nowait, _text(rest))
            loop.call_soon_threadsafe(self._lines.put_nowait, None)

    def _chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except OSError:
            return b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
