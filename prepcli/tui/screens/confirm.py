"""A dialogue that asks a yes-or-no question."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from prepcli.tui.keys import NO, YES


class ConfirmScreen(ModalScreen[bool]):
    """Dialogue that returns True for yes, and False for no or escape."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [YES.binding(), NO.binding()]

    def __init__(self, question: str, consequence: str, *, yes: str, no: str) -> None:
        """`yes` and `no` label the two choices, in one or two words."""
        super().__init__()
        self._question = question
        self._consequence = consequence
        self._yes = yes
        self._no = no

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._question, id="question", markup=False)
            yield Static(self._consequence, id="consequence", markup=False)
            yield Static(
                f"{YES.name}  {self._yes}      {NO.name}  {self._no}", id="choice", markup=False
            )

    def action_yes(self) -> None:
        self.dismiss(True)

    def action_no(self) -> None:
        self.dismiss(False)
