"""The help screen, made from the table of keys."""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from prepcli.tui.keys import CLOSE, HELP, HELP_SIGN, SECTIONS, Key, Section, key_label


def key_names(key: Key) -> str:
    """Return the names of all keys of an action, such as `ctrl+r or f2`."""
    return " or ".join(key_label(name) for name in key.keys.split(","))


def section_table(section: Section) -> Table:
    """Return a table of a section's keys and their actions."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=22)
    table.add_column(ratio=1)
    for key in section.keys:
        table.add_row(Text(key_names(key), style="bold"), key.help)
    return table


class HelpScreen(ModalScreen[None]):
    """Screen that lists the keys by section; escape or the help key closes the screen."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        CLOSE.binding(),
        Key(f"{HELP.keys},{HELP_SIGN.keys}", "close", "Close", "").binding(show=False),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.border_title = "Keys"
            box.border_subtitle = f"{CLOSE.name} closes"
            for section in SECTIONS:
                yield Static(section.title, classes="section", markup=False)
                yield Static(section_table(section))

    def action_close(self) -> None:
        self.dismiss()
