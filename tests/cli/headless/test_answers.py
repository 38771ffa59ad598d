import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

from prepcli.errors import UsageError
from prepcli.headless.answers import (
    Answer,
    AnswerQueue,
    DescriptorReader,
    RecordedAnswer,
    TypedAnswer,
)
from prepserver.wire.limits import MAX_ANSWER


class FakeLines:
    """Fake line source whose lines are available immediately."""

    def __init__(self, *lines: str, interactive: bool = False) -> None:
        self.interactive = interactive
        self._lines = list(lines)

    async def next_line(self, draft: str = "", *, prompt: str = "") -> str | None:
        if draft:
            return f"checked: {draft}"
        return self._lines.pop(0) if self._lines else None


def drain(answers: AnswerQueue) -> list[Answer]:
    async def run() -> list[Answer]:
        drained = []
        while (answer := await answers.next_answer()) is not None:
            drained.append(answer)
        return drained

    return asyncio.run(run())


def test_prepared_answers_precede_typed_lines() -> None:
    """Prepared answers come first and in order, followed by typed lines."""
    spoken, typed = RecordedAnswer(b"\x00\x00"), TypedAnswer("from the file")
    answers = AnswerQueue([spoken, typed], FakeLines("typed\n"))
    assert drain(answers) == [spoken, typed, TypedAnswer("typed")]


def test_answer_that_is_put_back_is_next() -> None:
    """An answer that is put back precedes all others."""
    answers = AnswerQueue([TypedAnswer("a"), TypedAnswer("b")])
    answers.put_back(TypedAnswer("again"))
    assert drain(answers) == [TypedAnswer("again"), TypedAnswer("a"), TypedAnswer("b")]


@pytest.mark.parametrize("interactive", [True, False])
def test_person_checks_a_draft_first(interactive: bool) -> None:
    """A person at a terminal checks a draft before further prepared answers are used; a script does
    not see the draft."""
    answers = AnswerQueue([TypedAnswer("a")], FakeLines(interactive=interactive))
    answer = asyncio.run(answers.next_answer("we moved it"))
    assert answer == TypedAnswer("checked: we moved it" if interactive else "a")


def test_blank_lines_are_skipped() -> None:
    """A blank line is skipped; a line of the maximum length is an answer."""
    answers = AnswerQueue((), FakeLines("\n", "  \n", "x" * MAX_ANSWER))
    assert drain(answers) == [TypedAnswer("x" * MAX_ANSWER)]


def test_too_long_line_is_rejected() -> None:
    """A line over the maximum length raises UsageError and is not truncated."""
    answers = AnswerQueue((), FakeLines("x" * (MAX_ANSWER + 1)))
    with pytest.raises(UsageError, match=f"{MAX_ANSWER:,}"):
        drain(answers)


def test_next_answer_is_interactive_only_without_prepared_ones() -> None:
    """The next answer is interactive only if no answer is prepared and a person types the lines."""
    lines = FakeLines("x", interactive=True)
    assert not AnswerQueue([TypedAnswer("a")], lines).next_is_interactive
    assert AnswerQueue((), lines).next_is_interactive
    assert not AnswerQueue((), FakeLines("x")).next_is_interactive
    assert drain(AnswerQueue((), lines)) == [TypedAnswer("x")]


def test_lines_of_a_file(tmp_path: Path) -> None:
    """A file yields its lines, including an unterminated last one, and then always None."""
    file = tmp_path / "in"
    file.write_bytes("één\ntwo\n\nlast".encode())
    descriptor = os.open(file, os.O_RDONLY)

    async def run() -> list[str | None]:
        lines = DescriptorReader(descriptor)
        assert not lines.interactive
        return [await lines.next_line() for _ in range(6)]

    try:
        assert asyncio.run(run()) == ["één", "two", "", "last", None, None]
    finally:
        os.close(descriptor)


def test_lines_of_a_pipe_arrive_as_they_are_completed() -> None:
    """A line from a pipe is returned as soon as its line feed arrives, even if the line arrives in
    several pieces."""
    reading, writing = os.pipe()

    async def run() -> None:
        lines = DescriptorReader(reading)
        waiting = asyncio.create_task(lines.next_line())
        os.write(writing, b"hel")
        await asyncio.sleep(0)
        assert not waiting.done()
        os.write(writing, b"lo\nnext")
        assert await waiting == "hello"
        os.close(writing)
        assert [await lines.next_line(), await lines.next_line()] == ["next", None]

    asyncio.run(run())
    os.close(reading)


def read_all(data: bytes) -> list[Answer]:
    """Return the answers in a pipe that contains `data`."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, data)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return drain(AnswerQueue((), DescriptorReader(reading)))
    finally:
        os.close(reading)
        thread.join()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\rtwo\r", ["one", "two"]),
        (b"one\r\rtwo\n\n\n", ["one", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "two"]),
        ("one\ntwo\n".encode("utf-16"), ["one", "two"]),
        (b"\xfe\xff" + "\u00e9n\r\n\U0001f600".encode("utf-16-be"), ["\u00e9n", "\U0001f600"]),
        (b"one\r\ntwo\r\n\x1a", ["one", "two"]),
        (b"one\ntwo\x1a\x1a\n", ["one", "two"]),
        (b"one\x0cmore\n\x0c\ntwo", ["one\x0cmore", "two"]),
        ("one\u2028more\ntwo\u2029\n".encode(), ["one\u2028more", "two"]),
        ("one\x85more\x0bmore\x1cmore\n".encode(), ["one\x85more\x0bmore\x1cmore"]),
        (b"caf\xe9 \x93quoted\x94\n\xc3\xa9", ["caf\u00e9 \u201cquoted\u201d", "\u00e9"]),
        (b"", []),
        (b"\xef\xbb\xbf", []),
        (b" \n\x1a", []),
    ],
)
def test_lines_of_other_systems(data: bytes, lines: list[str]) -> None:
    """Lines end with LF, CRLF or CR and with nothing else; byte order marks and end-of-file
    characters are no answers, and bytes that are not UTF-8 are Windows-1252."""
    assert read_all(data) == [TypedAnswer(line) for line in lines]


@pytest.mark.parametrize("data", [b"one\0two\n", b"\0" * 10_000, b"\x89PNG\r\n\0\0\0\rIHDR"])
def test_nul_is_rejected(data: bytes) -> None:
    """A NUL character raises UsageError: the input is not text."""
    with pytest.raises(UsageError, match="NUL"):
        read_all(data)


def test_endless_line_is_rejected() -> None:
    """A line without an end raises UsageError before all of it is in memory."""
    with (
        Path("/dev/zero").open("rb") as endless,
        pytest.raises(UsageError, match=f"{MAX_ANSWER:,}"),
    ):
        drain(AnswerQueue((), DescriptorReader(endless.fileno())))


def test_reading_ahead_is_limited() -> None:
    """Of an endless stream of lines, few are read before they are needed."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    async def run() -> int:
        lines = DescriptorReader(reading)
        written = 0
        for _ in range(3):
            with contextlib.suppress(BlockingIOError):
                while True:
                    written += os.write(writing, b"line\n" * 1000)
            assert await lines.next_line() == "line"
        return written

    assert asyncio.run(run()) < 1024 * 1024
    os.close(writing)
    os.close(reading)


def test_unreadable_input_is_reported(tmp_path: Path) -> None:
    """If standard input cannot be read, UsageError gives the reason."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UsageError, match="directory"):
            drain(AnswerQueue((), DescriptorReader(descriptor)))
    finally:
        os.close(descriptor)
