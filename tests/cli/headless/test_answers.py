import asyncio
import os
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

    async def next_line(self) -> str | None:
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
    assert drain(AnswerQueue((), lines)) == [TypedAnswer("x", echoed=True)]


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


def test_terminal_is_interactive() -> None:
    """A reader is interactive if its descriptor is a terminal."""
    controller, terminal = os.openpty()
    assert DescriptorReader(terminal).interactive
    os.close(controller)
    os.close(terminal)
