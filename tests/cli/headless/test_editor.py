import asyncio
import contextlib
import os
import select
import termios
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from prepcli.errors import PrepError
from prepcli.headless.answers import AnswerQueue, TypedAnswer
from prepcli.headless.editor import PROMPT, LineEditor
from prepserver.wire.limits import MAX_ANSWER

TIMEOUT_SECONDS = 30.0


class Person:
    """Person at the other end of a pseudo-terminal. A thread reads what the terminal shows, so that
    the program never waits for it."""

    def __init__(self, controller: int) -> None:
        self._controller = controller
        self._shown: asyncio.Queue[bytes] = asyncio.Queue()
        self._seen = b""
        loop = asyncio.get_running_loop()
        # The thread has a descriptor of its own, which no later test gets while it is read.
        own = os.dup(controller)
        threading.Thread(target=self._read, args=(loop, own), daemon=True).start()

    async def type(self, text: str | bytes) -> None:
        """Type text at once."""
        data = text.encode() if isinstance(text, str) else text
        await asyncio.to_thread(os.write, self._controller, data)

    async def see(self, text: str) -> None:
        """Wait until the terminal shows `text` after what was seen before."""
        while text.encode() not in self._seen:
            self._seen += await self._shown.get()
        self._seen = self._seen.partition(text.encode())[2]

    def _read(self, loop: asyncio.AbstractEventLoop, controller: int) -> None:
        try:
            while data := os.read(controller, 65536):
                loop.call_soon_threadsafe(self._shown.put_nowait, data)
        except (OSError, RuntimeError):  # the terminal or the loop is closed
            os.close(controller)


@pytest.fixture(params=["xterm", "dumb"])
def term(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test on a terminal with and without cursor movement."""
    monkeypatch.setenv("TERM", request.param)
    return str(request.param)


@contextlib.contextmanager
def pseudo_terminal() -> Iterator[tuple[int, int]]:
    controller, terminal = os.openpty()
    try:
        yield controller, terminal
    finally:
        os.close(terminal)
        os.close(controller)


def at_terminal(
    act: Callable[[LineEditor, Person], Awaitable[None]], encoding: str = "utf-8"
) -> None:
    """Run a line editor on a pseudo-terminal while a person acts on it."""
    with (
        pseudo_terminal() as (controller, terminal),
        open(terminal, encoding=encoding, closefd=False) as keyboard,
        open(terminal, "w", errors="replace", closefd=False) as screen,
        LineEditor(keyboard, screen, quiet_seconds=0.1) as editor,
    ):

        async def run() -> None:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await act(editor, Person(controller))

        asyncio.run(run())


def typed_answer(text: str) -> str | None:
    """Return the answer of a person who types `text` at the prompt at once."""
    answers = []

    async def act(editor: LineEditor, person: Person) -> None:
        task = asyncio.create_task(editor.next_line())
        await person.see(PROMPT)
        await person.type(text)
        answers.append(await task)

    at_terminal(act)
    return answers[0]


@pytest.mark.parametrize(
    "paste",
    [
        "one\ntwo\nthree\n",
        "one\rtwo\rthree\r",
        "one\r\ntwo\r\nthree\r",
        "one\ntwo\nthree\n\n\n",
        "\x1b[200~one\ntwo\nthree\x1b[201~\r",
        "\x1b[200~one\rtwo\rthree\r\x1b[201~\r",
        "\x1b[200~one\r\ntwo\r\nthree\x1b[201~\n",
    ],
)
def test_paste_is_one_answer(term: str, paste: str) -> None:
    """Lines pasted at once are one answer, whatever their line ending and whether or not the
    terminal marks the paste."""
    answer = typed_answer(paste)
    assert answer is not None
    assert answer.rstrip("\n") == "one\ntwo\nthree"


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        ("Kafja\x1b[D\x7fk\r", "Kafka"),
        ("afka\x01K\r", "Kafka"),
        ("afka\x1b[HK\x1b[F!\r", "Kafka!"),
        ("wrong\x15right\r", "right"),
        ("one two\x17three\r", "one three"),
        ("xKafka\x1bOH\x1b[3~\r", "Kafka"),
        ("first\x1b\rsecond\r", "first\nsecond"),
        ("tab\there\r", "tab\there"),
        ("Kaf\x1b[I\x1b[O\x1b[97;5u\x1b[?62cka\r", "Kafka"),
        ("Kaf\x1b[1;15D\x1bOz\x1b]11;rgb:0/0/0\x1b\\ka\r", "Kafka"),
        ("\x1b[200~\x1b[31mKaf\x1b[0m\x07k\x00a\x1b[201~\r", "Kafka"),
        ("Zürich 東京 👩‍💻\x7f\x7f\x7f\r", "Zürich 東京 "),
    ],
)
def test_editing_keys(term: str, keys: str, answer: str) -> None:
    """Arrow and editing keys change the answer, and are no part of it; alt+enter starts a new
    line."""
    assert typed_answer(keys) == answer


@pytest.mark.parametrize(
    ("draft", "keys", "answer"),
    [
        ("We moved it.", "\r", "We moved it."),
        ("We moved it", " twice.\r", "We moved it twice."),
        ("We move it", "\x7f\x7f\x7fd it\r", "We moved it"),
        ("wrong", "\x15right\r", "right"),
        ("Lideré un equipo", "\r", "Lideré un equipo"),
    ],
)
def test_draft_is_edited_and_sent(term: str, draft: str, keys: str, answer: str) -> None:
    """A draft is shown after the prompt; enter sends it, and keys edit it first."""

    async def act(editor: LineEditor, person: Person) -> None:
        task = asyncio.create_task(editor.next_line(draft))
        await person.see(PROMPT)
        await person.see(draft)
        await person.type(keys)
        assert await task == answer

    at_terminal(act)


@pytest.mark.parametrize("letter", ["word ", "é", "語", "😀"])
def test_long_line_is_not_cut(term: str, letter: str) -> None:
    """A line of the maximum length is kept whole, far beyond the 4,095 bytes of a terminal's own
    line."""
    text = (letter * MAX_ANSWER)[: MAX_ANSWER - 1] + "."
    assert typed_answer(f"{text}\r") == text


def test_too_long_answer_stays_in_the_editor(term: str) -> None:
    """An answer beyond the maximum is refused in a sentence and can be shortened."""

    async def act(editor: LineEditor, person: Person) -> None:
        task = asyncio.create_task(editor.next_line())
        await person.see(PROMPT)
        await person.type("x" * (MAX_ANSWER + 1) + "\r")
        await person.see(f"{MAX_ANSWER:,}")
        assert not task.done()
        await person.type("\x7f\r")
        assert await task == "x" * MAX_ANSWER

    at_terminal(act)


@pytest.mark.parametrize("early", ["a\nb\n", "a\rb\r", "a\n\x1b[200~b\x1b[201~\n", "ax\x7f\nb"])
def test_type_ahead_is_a_draft(term: str, early: str) -> None:
    """Text typed before the prompt never answers by itself: it becomes a draft, which enter
    sends."""

    async def act(editor: LineEditor, person: Person) -> None:
        await person.type(early)
        task = asyncio.create_task(editor.next_line())
        await person.see("b")
        assert not task.done()
        await person.type("!\n")
        assert await task == "a\nb!"

    at_terminal(act)


def test_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """The up key recalls the previous answer."""
    monkeypatch.setenv("TERM", "xterm")

    async def act(editor: LineEditor, person: Person) -> None:
        for keys, expected in (("before\r", "before"), ("\x1b[A!\r", "before!")):
            task = asyncio.create_task(editor.next_line())
            await person.see(PROMPT)
            await person.type(keys)
            assert await task == expected
            await person.see("\x1b[?2004l")  # the prompt has ended

    at_terminal(act)


def test_output_above_the_prompt(term: str) -> None:
    """Text printed while the prompt is open does not change the answer, and the prompt is shown
    again below it."""

    async def act(editor: LineEditor, person: Person) -> None:
        task = asyncio.create_task(editor.next_line())
        await person.see(PROMPT)
        await person.type("half")
        await person.see("half")
        editor.print_above(lambda: notes.append("note"))
        await person.see(f"{PROMPT}")
        await person.type(" done\r")
        assert await task == "half done"

    notes: list[str] = []
    at_terminal(act)
    assert notes == ["note"]


def test_end_of_input(term: str) -> None:
    """Ctrl+d on an empty line ends the input; after text it does not."""
    assert typed_answer("\x04") is None
    assert typed_answer("text\x04\r") == "text"


def test_ctrl_c_interrupts(term: str) -> None:
    """Ctrl+c interrupts the program as it does without an editor."""
    with pytest.raises(KeyboardInterrupt):
        typed_answer("text\x03")


def test_closed_terminal_is_no_answer(term: str) -> None:
    """Closing the terminal neither sends the draft nor ends the interview."""

    async def act(editor: LineEditor, person: Person) -> None:
        task = asyncio.create_task(editor.next_line())
        await person.see(PROMPT)
        await person.type("draft")
        await person.see("draft")
        editor._input.stdin_reader.closed = True  # as after a terminal has hung up
        await person.type("x")
        with pytest.raises(PrepError):
            await task

    at_terminal(act)


def test_rest_is_not_left_to_the_shell(term: str) -> None:
    """After the editor, the terminal has its earlier modes, and no unread input."""
    with pseudo_terminal() as (controller, terminal):
        before = termios.tcgetattr(terminal)
        with (
            open(terminal, closefd=False) as keyboard,
            open(terminal, "w", errors="replace", closefd=False) as screen,
            LineEditor(keyboard, screen),
        ):
            assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON)
            os.write(controller, b"rm -r x\n")
            assert select.select([terminal], [], [], TIMEOUT_SECONDS)[0]
        assert termios.tcgetattr(terminal) == before
        os.set_blocking(terminal, False)
        with pytest.raises(BlockingIOError):
            os.read(terminal, 100)


@pytest.mark.parametrize("typed", [b"caf\xe9 \x96!", "caf\u00e9 \u2013!".encode()])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bytes_of_another_encoding(encoding: str, typed: bytes) -> None:
    """Bytes that the terminal's encoding lacks are taken as UTF-8 or else as Windows-1252, as those
    of a file are."""

    async def act(editor: LineEditor, person: Person) -> None:
        task = asyncio.create_task(AnswerQueue((), editor).next_answer())
        await person.see(PROMPT)
        await person.type(typed + b"\r")
        assert await task == TypedAnswer("caf\u00e9 \u2013!")

    at_terminal(act, encoding)
