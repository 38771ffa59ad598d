"""The text box for the candidate's answer."""

from typing import ClassVar

from textual.binding import BindingType
from textual.events import Key
from textual.widgets import TextArea

from prepcli.tui.keys import NEWLINE, RECORD, SEND
from prepcli.tui.messages import AnswerSubmitted, AnswerTyped
from prepcli.tui.text import Seconds
from prepserver.wire.limits import MAX_ANSWER

TYPING_SECONDS = 2.0
"""Minimum number of seconds between two `AnswerTyped` messages."""


class Throttle:
    """Filter that passes the first event, then at most one event every `seconds` seconds."""

    def __init__(self, seconds: float, monotonic: Seconds) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._next = float("-inf")

    def __call__(self) -> bool:
        """Return True if an event passes now."""
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class AnswerBox(TextArea):
    """Multi-line text box for an answer, which the enter key sends.

    Posts `AnswerTyped` and `AnswerSubmitted`. The text stays until the screen removes it, so that
    an answer that cannot be sent is not lost.
    """

    DEFAULT_CSS = """
    AnswerBox {
        height: auto;
        min-height: 4;
        max-height: 9;
        background: $surface;
        border: round $border-blurred;
        &:focus { border: round $border; }
        &.-too-long { border: round $error; border-subtitle-color: $text-error; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        SEND.binding(),
        NEWLINE.binding(show=False),
    ]

    def __init__(self, monotonic: Seconds, *, id: str | None = None) -> None:
        super().__init__(
            soft_wrap=True,
            tab_behavior="focus",
            show_line_numbers=False,
            highlight_cursor_line=False,
            placeholder=f"Type your answer, or press {RECORD.name} and speak",
            id=id,
        )
        self._throttle = Throttle(TYPING_SECONDS, monotonic)
        self._shown = ""

    def set_text(self, text: str) -> None:
        """Replace the text without posting `AnswerTyped`, and move the cursor to the end of the
        text."""
        self._shown = text
        self.text = text
        self.move_cursor(self.document.end)

    def remove_sent(self, text: str) -> None:
        """Remove the sent `text` from the beginning of the box, and keep the text typed after
        it."""
        if self.text.startswith(text):
            self.set_text(self.text.removeprefix(text))

    async def _on_key(self, event: Key) -> None:
        # A priority binding would run before the keys still queued for this box, and a fast typist
        # would send half an answer.
        if event.key in SEND.keys.split(","):
            self.action_send()
        elif event.key in NEWLINE.keys.split(","):
            self.action_newline()
        else:
            return
        event.stop()
        event.prevent_default()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        if self.text == self._shown:
            return
        self._shown = self.text
        over = len(self.text) - MAX_ANSWER
        self.border_subtitle = (
            f"{over:,} character{'' if over == 1 else 's'} too long" if over > 0 else ""
        )
        self.set_class(over > 0, "-too-long")
        if self._throttle():
            self.post_message(AnswerTyped(self.text))

    def action_newline(self) -> None:
        self.insert("\n")

    def action_send(self) -> None:
        self.post_message(AnswerSubmitted(self.text))
