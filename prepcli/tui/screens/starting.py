"""The screen shown until the server is ready."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Static

from prepcli.terminal_text import one_line
from prepcli.tui.messages import StartupProgressed
from prepcli.tui.text import Seconds
from prepcli.tui.widgets.status import Activity, StatusLine


class StartingScreen(Screen[None]):
    """Screen with the latest `StartupProgressed` line and the time elapsed."""

    CSS_PATH = "starting.tcss"

    def __init__(self, monotonic: Seconds) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._opened = monotonic()

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("prep", id="name")
            yield Static("A mock interview in your terminal", id="motto")
            yield StatusLine(id="status")

    def on_mount(self) -> None:
        self.query_one(StatusLine).activity = Activity("Starting…", busy=True)
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        self.query_one(StatusLine).elapsed = int(self._monotonic() - self._opened)

    def on_startup_progressed(self, event: StartupProgressed) -> None:
        self.query_one(StatusLine).activity = Activity(one_line(event.line), busy=True)
