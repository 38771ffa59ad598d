"""The banner shown while the connection is lost, with a countdown to the next attempt."""

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from prepcli.tui.text import Seconds

KEPT = "Your typed and spoken answers are kept."


def banner(retry_in: float, *, narrow: bool, local: bool = False) -> str:
    """Return the banner's text. The number of seconds in `retry_in` is rounded up. `local` means
    that the server is the local server, which is being restarted."""
    if local:
        line = "The interviewer stopped. Restarting…"
        return line if narrow else f"{line} Your answer and your draft are safe."
    seconds = -int(-retry_in // 1)
    when = f"reconnecting in {seconds} s" if seconds > 0 else "reconnecting now"
    line = f"Connection lost; {when}."
    return line if narrow else f"{line} {KEPT}"


class ConnectionBanner(Widget):
    """Line with a countdown to the next attempt to connect; hidden while connected."""

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

    def __init__(self, monotonic: Seconds, *, local: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._local = local
        self._monotonic = monotonic
        self._due = 0.0
        self.display = False

    def on_mount(self) -> None:
        self._countdown = self.set_interval(0.25, self._tick, pause=True)

    def show_offline(self, retry_in: float) -> None:
        """Show the banner; the next attempt starts in `retry_in` seconds."""
        self._due = self._monotonic() + retry_in
        self.display = True
        self._tick()
        self._countdown.resume()

    def hide(self) -> None:
        self.display = False
        self._countdown.pause()

    def _tick(self) -> None:
        self.remaining = max(0.0, self._due - self._monotonic())

    def render(self) -> Text:
        narrow = self.content_size.width < 70
        text = banner(self.remaining, narrow=narrow, local=self._local)
        return Text(text, no_wrap=True, overflow="ellipsis")
