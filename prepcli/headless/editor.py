"""Line editor for answers typed at a terminal, based on prompt_toolkit."""

import asyncio
import contextlib
import itertools
import os
import re
import signal
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import is_dumb_terminal
from prompt_toolkit.validation import Validator

from prepcli.client.documents import answer_text
from prepcli.errors import PrepError
from prepcli.headless.answers import decode_rest
from prepserver.wire.limits import MAX_ANSWER

__all__ = ["LineEditor"]

PROMPT = "You: "

PROMPT_STYLE = "bold ansidefault"
"""Style of the prompt. It names a colour, because an uncoloured space at the end is not drawn."""

QUIET_SECONDS = 0.1
"""Seconds without input after which an enter key ends the answer. Sooner input belongs to the same
paste, in which the enter key is a line break."""

MAX_TYPE_AHEAD = 4 * MAX_ANSWER
"""Number of characters after which reading input from before the prompt stops."""

_ENTER = (Keys.ControlM, Keys.ControlJ)
"""Keys that a terminal sends for enter, depending on its mode."""


_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\))")
"""Escape sequence of ECMA-48: a control sequence, a key of the keypad, or a control string."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Control characters that are neither white space nor line breaks."""


class _Keyboard(Vt100Input):
    """Input of a terminal, in which text that arrives at the same moment is a paste, even if the
    terminal does not mark it as one."""

    def read_keys(self) -> list[KeyPress]:
        """Return the keys that have arrived. Successive characters are one paste, as are the line
        breaks among them; an enter key at the end is left as it is."""
        keys = _without_unknown_sequences(super().read_keys())
        end = [keys.pop()] if keys and keys[-1].key in _ENTER else []
        merged = []
        for is_text, group in itertools.groupby(keys, _is_text):
            run = list(group)
            if is_text and (len(run) > 1 or run[0].key in _ENTER):
                run = [KeyPress(Keys.BracketedPaste, "".join(key.data for key in run))]
            merged += run
        return merged + end


def _without_unknown_sequences(keys: list[KeyPress]) -> list[KeyPress]:
    """Return the keys without escape sequences that the library does not know, such as those of
    unusual keys and of a focused window. It takes them for the escape key and text."""
    kept = []
    skipped = 0
    for position, key in enumerate(keys):
        if skipped <= 0 and key.key == Keys.Escape:
            found = _SEQUENCE.match("".join(each.data for each in keys[position:]))
            skipped = found.end() if found else 0
        if skipped > 0:
            skipped -= len(key.data)
        else:
            kept.append(key)
    return kept


def _is_text(key: KeyPress) -> bool:
    return len(key.key) == 1 or key.key in (*_ENTER, Keys.ControlI)


class LineEditor:
    """A line source in which a person edits each answer at a terminal, in one line or several.

    Text pasted at once is one answer, whether the terminal marks pastes or not. Text typed before
    the prompt becomes the draft of the next answer: it never answers a question that the person has
    not seen. As a context manager, the editor keeps the terminal from echoing such text, and at the
    end discards what was not read, so that a shell does not execute it.
    """

    interactive = True

    def __init__(
        self, keyboard: TextIO, screen: TextIO, *, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        """`keyboard` and `screen` are the streams of one terminal."""
        self._keyboard = keyboard
        self._screen = screen
        self._quiet_seconds = quiet_seconds
        self._input = _Keyboard(keyboard)
        self._dumb = is_dumb_terminal()
        """True if the terminal cannot move its cursor. The editor then only appends to the
        screen."""
        self._enter: asyncio.TimerHandle | None = None
        """Pending enter key, which is either the end of the answer or a line break of a paste."""
        self._shown = ""
        """Text that a dumb terminal shows after the prompt."""
        self._modes: list[Any] = []
        self._prompt = PROMPT
        self._may_be_empty = False
        """True if enter ends an empty line too."""
        too_long = f"The answer is longer than {MAX_ANSWER:,} characters. Shorten it."
        self._session = PromptSession[str](
            lambda: "" if self._dumb else [(PROMPT_STYLE, self._prompt)],
            multiline=True,
            enable_suspend=True,
            validate_while_typing=False,
            validator=Validator.from_callable(
                lambda text: len(answer_text(text)) <= MAX_ANSWER, too_long, True
            ),
            key_bindings=self._create_bindings(),
            input=self._input,
            output=DummyOutput() if self._dumb else _create_output(screen),
        )
        self._session.app.key_processor.before_key_press += self._break_line
        if self._dumb:
            self._session.default_buffer.on_text_changed += self._show_change

    def __enter__(self) -> Self:
        with contextlib.suppress(termios.error):
            self._modes = termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard, termios.TCSADRAIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(termios.error):  # the terminal is gone
            if self._modes:
                termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._modes)

    async def next_line(self, draft: str = "", *, prompt: str = "") -> str | None:
        """Return the next answer, in which lines end with a line feed, or None after ctrl+d on an
        empty line. `draft` is the text before the first key. A `prompt` asks for a command, which
        may be empty. Raises PrepError if the terminal was closed."""
        self._prompt = prompt or PROMPT
        self._may_be_empty = bool(prompt)
        await self._store_type_ahead()
        if self._dumb:
            self._shown = draft
            self._append(self._prompt + draft)
        try:
            answer = await self._session.prompt_async(
                default=draft, handle_sigint=False, set_exception_handler=False
            )
            return _CONTROLS.sub("", _SEQUENCE.sub("", decode_rest(answer)))
        except EOFError:
            if self._input.closed:
                raise PrepError("The terminal was closed.") from None
            return None
        finally:
            if self._dumb:
                self._append("\n")

    def print_above(self, write: Callable[[], None]) -> None:
        """Call `write`, which prints whole lines on the terminal, without damage to an open
        prompt."""
        if not self._session.app.is_running:
            write()
        elif not self._dumb:
            run_in_terminal(write)
        else:
            self._append("\n")
            write()
            self._append(self._prompt + self._shown)

    async def _store_type_ahead(self) -> None:
        """Give the keys typed before the prompt to the prompt, with line breaks instead of
        enter keys."""
        keys: list[KeyPress] = []
        length = 0
        while length < MAX_TYPE_AHEAD and (batch := self._input.read_keys()):
            length += sum(len(key.data) for key in batch)
            keys += [_line_break() if key.key in _ENTER else key for key in batch]
            await asyncio.sleep(self._quiet_seconds)
        while keys and keys[-1].data == "\n":
            keys.pop()
        store_typeahead(self._input, keys)

    # --- Keys ---------------------------------------------------------------------------------

    def _create_bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        bindings.add("c-m")(self._press_enter)
        bindings.add("c-j")(self._press_enter)
        bindings.add("escape", "c-m")(_insert_line_break)
        bindings.add("escape", "c-j")(_insert_line_break)
        bindings.add("c-c")(_interrupt)
        return bindings

    def _press_enter(self, _: KeyPressEvent) -> None:
        loop = asyncio.get_running_loop()
        self._enter = loop.call_later(self._quiet_seconds, self._accept)

    def _break_line(self, _: object) -> None:
        """Turn a pending enter key into a line break, because a key follows it too soon."""
        if self._enter is not None:
            self._enter.cancel()
            self._enter = None
            self._session.default_buffer.insert_text("\n")

    def _accept(self) -> None:
        self._enter = None
        buffer = self._session.default_buffer
        blank = not answer_text(buffer.text)
        if self._session.app.is_done or (blank and not self._may_be_empty):
            return
        buffer.validate_and_handle()
        self._session.app.invalidate()
        if self._dumb and buffer.validation_error is not None:
            message = buffer.validation_error.message
            self.print_above(lambda: self._append(f"{message}\n"))

    # --- Dumb terminals -----------------------------------------------------------------------

    def _show_change(self, _: object) -> None:
        text = self._session.default_buffer.text
        if text.startswith(self._shown):
            self._append(text[len(self._shown) :])
        elif text:  # empty after the prompt has ended
            self._append(f"\n{self._prompt}{text}")
        self._shown = text

    def _append(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()


def _create_output(screen: TextIO) -> Vt100_Output:
    output = Vt100_Output.from_pty(screen, term=os.environ.get("TERM"))
    output.enable_cpr = False  # a reply to the query could be mistaken for input
    return output


def _line_break() -> KeyPress:
    return KeyPress(Keys.BracketedPaste, "\n")


def _insert_line_break(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


def _interrupt(_: KeyPressEvent) -> None:
    signal.raise_signal(signal.SIGINT)
