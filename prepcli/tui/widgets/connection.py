"""The banner that says when the server cannot be heard, and that prep keeps trying."""

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from prepcli.tui.text import Seconds

KEPT = "What you write and say is kept."


def banner(attempt_in: float, *, narrow: bool) -> str:
    """The line, with the seconds until the next attempt, rounded up."""
    seconds = -int(-attempt_in // 1)
    when = f"trying again in {seconds} s" if seconds > 0 else "trying again now"
    line = f"Connection lost, {when}."
    return line if narrow else f"{line} {KEPT}"


class ConnectionBanner(Widget):
    """Hidden while the connection holds; otherwise a line with a countdown."""

    DEFAULT_CSS = """
    ConnectionBanner {
        height: 1;
        padding: 0 1;
        background: $warning-muted;
        color: $text-warning;
        text-style: bold;
    }
    """

    remaining = reactive(0.0)

    def __init__(self, monotonic: Seconds, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._monotonic = monotonic
        self._due = 0.0
        self.display = False

    def on_mount(self) -> None:
        self._countdown = self.set_interval(0.25, self._tick, pause=True)

    def lost(self, retry_in: float) -> None:
        """Show that the connection is lost and the next attempt comes in so many seconds."""
        self._due = self._monotonic() + retry_in
        self.display = True
        self._tick()
        self._countdown.resume()

    def restored(self) -> None:
        self.display = False
        self._countdown.pause()

    def _tick(self) -> None:
        self.remaining = max(0.0, self._due - self._monotonic())

    def render(self) -> Text:
        narrow = self.content_size.width < 70
        return Text(banner(self.remaining, narrow=narrow), no_wrap=True, overflow="ellipsis")
