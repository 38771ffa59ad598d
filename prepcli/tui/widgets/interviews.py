"""The list of the user's interviews, newest first, with two lines for each."""

from collections.abc import Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.binding import BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prepcli.terminal_text import one_line
from prepcli.tui.keys import OPEN
from prepcli.tui.text import relative_time
from prepserver.wire.protocol import Interview, InterviewType, Mode, Status

TYPES = {
    InterviewType.BEHAVIOURAL: "behavioural",
    InterviewType.TECHNICAL: "technical",
    InterviewType.SYSTEM_DESIGN: "system design",
    InterviewType.MIXED: "mixed",
}


def progress_text(interview: Interview) -> str:
    """Return the progress of an interview: `completed`, `ready to start`, `not started` or `2 of 5
    answered`."""
    if interview.status is Status.COMPLETED:
        return "completed"
    if interview.status is Status.PLANNED:
        return "ready to start"
    if not interview.answered:
        return "not started"
    return f"{interview.answered} of {interview.questions} answered"


def details(interview: Interview, now: float) -> str:
    """Return an interview's type, level, mode and last update, such as `technical · senior ·
    3 minutes ago`. The usual mode, practice, is left out."""
    mode = (Mode.REAL.value,) if interview.mode is Mode.REAL else ()
    updated = relative_time(interview.updated_at, now)
    return " · ".join((TYPES[interview.type], interview.level.value, *mode, updated))


class InterviewList(OptionList):
    """List of interviews. Opening an interview posts OptionList.OptionSelected, whose option has
    the interview's id."""

    DEFAULT_CSS = """
    InterviewList {
        height: 1fr;
        border: none;
        background: $background;
        padding: 0 1;
        &:focus { border: none; background-tint: $background 0%; }
        & > .option-list--option { padding: 0 1; }
        & > .option-list--separator { color: $foreground 10%; }
        & > .option-list--option-highlighted,
        &:focus > .option-list--option-highlighted {
            background: $primary 25%;
            color: $foreground;
            text-style: none;
        }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [OPEN.binding()]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._interviews: dict[str, Interview] = {}
        self._wanted = ""
        """Id of the interview to highlight once the list contains it."""

    @property
    def highlighted_interview(self) -> Interview | None:
        """Interview under the cursor; None if no interview is highlighted."""
        if self.highlighted is None:
            return None
        key = self.get_option_at_index(self.highlighted).id
        return self._interviews.get(key) if key else None

    def select(self, interview_id: str) -> None:
        """Highlight an interview, at the latest when the list contains it."""
        self._wanted = interview_id
        self._highlight_wanted()

    def _highlight_wanted(self) -> None:
        if self._wanted in self._interviews:
            self.highlighted = self.get_option_index(self._wanted)
            self._wanted = ""

    def update_interviews(self, interviews: Sequence[Interview], now: float) -> None:
        """Show `interviews`, newest first.

        The cursor stays on the same interview or, if that interview was deleted, in the same
        position.
        """
        position = self.highlighted or 0
        before = self.highlighted_interview
        ordered = sorted(interviews, key=lambda each: (-each.created_at, each.id))
        self._interviews = {each.id: each for each in ordered}
        options: list[Option | None] = []
        for each in ordered:
            # None draws a separator.
            options += [None] if options else []
            options.append(Option(_row(each, now), id=each.id))
        self.set_options(options)
        if not ordered:
            self.highlighted = None
        elif before is not None and before.id in self._interviews:
            self.highlighted = self.get_option_index(before.id)
        else:
            self.highlighted = min(position, len(ordered) - 1)
        self._highlight_wanted()


def _row(interview: Interview, now: float) -> Table:
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    row.add_column(justify="right", no_wrap=True)
    row.add_row(Text(one_line(interview.title), style="bold"), progress_text(interview))
    row.add_row(Text(details(interview, now), style="dim"), "")
    return row
