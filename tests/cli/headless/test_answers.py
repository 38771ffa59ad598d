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
    """Lines that are there already."""

    def __init__(self, *lines: str, interactive: bool = False) -> None:
        self.interactive = interactive
        self._lines = list(lines)

    async def next(self) -> str | None:
        return self._lines.pop(0) if self._lines else None


def all_of(answers: AnswerQueue) -> list[Answer]:
    async def run() -> list[Answer]:
        found = []
        while (answer := await answers.next()) is not None:
            found.append(answer)
        return found

    return asyncio.run(run())


def test_prepared_answers_come_first_and_in_order() -> None:
    """Recordings and lines of a file, and then what is typed."""
    spoken, typed = RecordedAnswer("a.wav", b"\x00\x00"), TypedAnswer("from the file")
    answers = AnswerQueue([spoken, typed], FakeLines("typed\n"))
    assert all_of(answers) == [spoken, typed, TypedAnswer("typed")]


def test_an_answer_that_is_put_back_is_next() -> None:
    """What came at a wrong moment is not lost."""
    answers = AnswerQueue([TypedAnswer("a"), TypedAnswer("b")])
    answers.put_back(TypedAnswer("again"))
    assert all_of(answers) == [TypedAnswer("again"), TypedAnswer("a"), TypedAnswer("b")]


def test_blank_lines_are_no_answers() -> None:
    """Somebody who only presses enter has said nothing."""
    answers = AnswerQueue((), FakeLines("\n", "  \n", "x" * MAX_ANSWER))
    assert all_of(answers) == [TypedAnswer("x" * MAX_ANSWER)]


def test_a_line_that_is_too_long_is_refused_whole() -> None:
    """Half an answer would be worse than none."""
    answers = AnswerQueue((), FakeLines("x" * (MAX_ANSWER + 1)))
    with pytest.raises(UsageError, match="too long"):
        all_of(answers)


def test_a_person_is_asked_only_when_nothing_is_prepared() -> None:
    """A prompt for an answer that is already there would be confusing."""
    lines = FakeLines("x", interactive=True)
    assert not AnswerQueue([TypedAnswer("a")], lines).will_ask
    assert AnswerQueue((), lines).will_ask
    assert not AnswerQueue((), FakeLines("x")).will_ask
    assert all_of(AnswerQueue((), lines)) == [TypedAnswer("x", echoed=True)]


def test_lines_of_a_file_end(tmp_path: Path) -> None:
    """A regular file gives its lines, the last one without an end too, and then None for ever."""
    file = tmp_path / "in"
    file.write_bytes("één\ntwo\n\nlast".encode())
    descriptor = os.open(file, os.O_RDONLY)

    async def run() -> list[str | None]:
        lines = DescriptorReader(descriptor)
        assert not lines.interactive
        return [await lines.next() for _ in range(6)]

    try:
        assert asyncio.run(run()) == ["één", "two", "", "last", None, None]
    finally:
        os.close(descriptor)


def test_lines_of_a_pipe_come_as_they_are_written() -> None:
    """A line is an answer as soon as it is whole, in however many pieces it comes."""
    reading, writing = os.pipe()

    async def run() -> None:
        lines = DescriptorReader(reading)
        waiting = asyncio.create_task(lines.next())
        os.write(writing, b"hel")
        await asyncio.sleep(0)
        assert not waiting.done()
        os.write(writing, b"lo\nnext")
        assert await waiting == "hello"
        os.close(writing)
        assert [await lines.next(), await lines.next()] == ["next", None]

    asyncio.run(run())
    os.close(reading)


def test_a_terminal_is_a_person() -> None:
    """Only somebody at a terminal is asked."""
    ours, theirs = os.openpty()
    assert DescriptorReader(theirs).interactive
    os.close(ours)
    os.close(theirs)
