"""A dialogue that asks a yes-or-no question."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from prepcli.tui.keys import CHOOSE, NO, YES


class ConfirmScreen(ModalScreen[bool]):
    """Dialogue that returns True for yes, and False for no or escape.

    Enter presses the highlighted button, at first the one that loses nothing.
    """

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [YES.binding(), NO.binding(), CHOOSE.binding()]

    def __init__(
        self, question: str, consequence: str, *, yes: str, no: str, enter: bool = False
    ) -> None:
        """`yes` and `no` label the two choices, in one or two words. `enter` is the choice that is
        highlighted at first."""
        super().__init__()
        self._question = question
        self._consequence = consequence
        self._yes = yes
        self._no = no
        self._enter = enter

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._question, id="question", markup=False)
            with VerticalScroll(id="consequence", can_focus=False):
                yield Static(self._consequence, markup=False)
            with Horizontal(id="choice"):
                yield Button(f"{YES.name}  {self._yes}", id="yes", compact=True)
                yield Button(f"{NO.name}  {self._no}", id="no", compact=True)

    def on_mount(self) -> None:
        self.query("#yes" if self._enter else "#no").focus()  # none if prep is quitting

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_yes(self) -> None:
        self.dismiss(True)

    def action_no(self) -> None:
        self.dismiss(False)

    def action_choose(self) -> None:
        self.focus_next()
