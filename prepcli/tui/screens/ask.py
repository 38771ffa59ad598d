"""The menu of requests to the interviewer."""

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prepcli.tui.keys import CLOSE, PAUSE, REPEAT, REPHRASE, SKIP
from prepserver.wire.client_messages import (
    CandidatePause,
    CandidateRepeat,
    CandidateRephrase,
    CandidateSkip,
    ClientMessages,
)

REQUESTS: dict[str, Callable[..., ClientMessages]] = {
    REPEAT.action: CandidateRepeat,
    REPHRASE.action: CandidateRephrase,
    PAUSE.action: CandidatePause,
    SKIP.action: CandidateSkip,
}
"""Message for each action of the menu."""

KEYS = (REPEAT, REPHRASE, PAUSE, SKIP)


class AskScreen(ModalScreen[str]):
    """Menu that returns an action of `REQUESTS`, or an empty string if the user closes it."""

    CSS_PATH = "ask.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [CLOSE.binding(), *(key.binding() for key in KEYS)]

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "Ask the interviewer"
            box.border_subtitle = f"{CLOSE.name} closes"
            yield OptionList(
                *(
                    Option(Text.assemble((key.name, "bold"), f"  {key.help}"), id=key.action)
                    for key in KEYS
                ),
                compact=True,
            )

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or "")

    def action_repeat(self) -> None:
        self.dismiss(REPEAT.action)

    def action_rephrase(self) -> None:
        self.dismiss(REPHRASE.action)

    def action_pause(self) -> None:
        self.dismiss(PAUSE.action)

    def action_skip(self) -> None:
        self.dismiss(SKIP.action)

    def action_close(self) -> None:
        self.dismiss("")
