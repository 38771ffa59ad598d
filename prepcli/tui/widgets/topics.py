"""The list of the topics of an agenda."""

from rich.table import Table
from rich.text import Text
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prepcli.client.agenda import reason_text
from prepcli.terminal_text import one_line
from prepserver.wire.agenda import Agenda, Topic, TopicStatus

STATUSES = {TopicStatus.DONE: "asked", TopicStatus.CURRENT: "now"}


class TopicList(OptionList):
    """List of topics in which the cursor stays on the same topic when the agenda changes."""

    DEFAULT_CSS = """
    TopicList {
        height: 1fr;
        border: none;
        background: $background;
        padding: 0 1;
        &:focus { border: none; background-tint: $background 0%; }
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted,
        &:focus > .option-list--option-highlighted {
            background: $primary 25%;
            color: $foreground;
            text-style: none;
        }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._topics: list[Topic] = []

    @property
    def number(self) -> int:
        """Number of the topic under the cursor, from 1; 0 if the list is empty."""
        return 0 if self.highlighted is None else self.highlighted + 1

    @property
    def topic(self) -> Topic | None:
        """Topic under the cursor; None if the list is empty."""
        return self._topics[self.number - 1] if self.number else None

    def update_topics(self, agenda: Agenda) -> None:
        """Show the topics of `agenda`."""
        before, position = self.topic, self.highlighted or 0
        known = bool(self._topics)
        self._topics = agenda.topics
        self.set_options(
            Option(_row(n, each), id=each.id) for n, each in enumerate(agenda.topics, 1)
        )
        ids = [each.id for each in agenda.topics]
        if not ids:
            self.highlighted = None
        elif before is not None and before.id in ids:
            self.highlighted = ids.index(before.id)
        elif known:
            self.highlighted = min(position, len(ids) - 1)
        else:
            planned = (n for n, each in enumerate(agenda.topics) if each.status not in STATUSES)
            self.highlighted = next(planned, 0)


def _row(number: int, topic: Topic) -> Table:
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(width=2, justify="right")
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    about = STATUSES.get(topic.status) or f"{topic.minutes} min"
    style = "dim" if topic.status is TopicStatus.DONE else ""
    row.add_row(f"{number}.", Text(one_line(topic.question), style=style), about)
    if reason := one_line(reason_text(topic)):
        row.add_row("", Text(reason, style="dim"), "")
    return row
