"""The box in which the candidate writes an answer."""

from typing import ClassVar

from textual.binding import BindingType
from textual.events import Key
from textual.widgets import TextArea

from prepcli.tui.keys import NEWLINE, SEND
from prepcli.tui.messages import AnswerSubmitted, AnswerTyped
from prepcli.tui.text import Seconds
from prepserver.wire.limits import MAX_ANSWER

TYPING_SECONDS = 2.0
"""At most one `AnswerTyped` in so many seconds: the room only needs to know that someone is."""


class Throttle:
    """Lets one event through in every `seconds`, the first one at once."""

    def __init__(self, seconds: float, monotonic: Seconds) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._next = float("-inf")

    def __call__(self) -> bool:
        """Whether this event goes through."""
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class AnswerBox(TextArea):
    """Several lines; enter sends them. Posts `AnswerTyped` and `AnswerSubmitted`.

    The text stays until the screen clears it, so that nothing written is ever lost.
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
            placeholder="Write your answer, or press ctrl+r and speak",
            id=id,
        )
        self._throttle = Throttle(TYPING_SECONDS, monotonic)
        self._shown = ""

    def put(self, text: str) -> None:
        """Show `text` with the cursor behind it; this is not typing."""
        self._shown = text
        self.text = text
        self.move_cursor(self.document.end)

    def take(self, text: str) -> None:
        """Remove `text` from the beginning: it was sent. What was typed since stays."""
        if self.text.startswith(text):
            self.put(self.text.removeprefix(text))

    async def _on_key(self, event: Key) -> None:
        # Here rather than as a binding with priority, which would run before the keys that are
        # still on their way to the box: a fast typist would send half an answer.
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
        self.border_subtitle = f"{over:,} characters too long" if over > 0 else ""
        self.set_class(over > 0, "-too-long")
        if self._throttle():
            self.post_message(AnswerTyped(self.text))

    def action_newline(self) -> None:
        self.insert("\n")

    def action_send(self) -> None:
        self.post_message(AnswerSubmitted(self.text))
