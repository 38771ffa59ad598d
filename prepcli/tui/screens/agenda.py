"""The agenda of an interview, in which the topics that are still planned can be changed."""

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static

from prepcli.client.agenda import (
    add_topic,
    change_question,
    move_topic,
    remove_topic,
    set_minutes,
)
from prepcli.errors import UsageError
from prepcli.tui.keys import (
    ADD,
    BEGIN,
    CHANGE,
    CLOSE,
    EARLIER,
    HELP_SIGN,
    LATER,
    LONGER,
    REMOVE,
    SHORTER,
)
from prepcli.tui.widgets.topics import TopicList
from prepserver.wire.agenda import Agenda, EditedTopic, TopicStatus
from prepserver.wire.limits import MAX_QUESTION

SendEdit = Callable[[list[EditedTopic]], Awaitable[bool]]
"""Function that sends an edited agenda to the server, and returns False if it cannot be sent."""

TOPIC_ACTIONS = ("change", "remove", "move", "minutes")
"""Actions that need a topic that is still planned."""


class AgendaScreen(Screen[bool]):
    """Screen that shows an agenda and returns True if the user starts the interview.

    Each change is sent to the server, whose new agenda is shown. Until it arrives, further changes
    are ignored.
    """

    CSS_PATH = "agenda.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        BEGIN.binding(),
        ADD.binding(),
        CHANGE.binding(),
        REMOVE.binding(),
        EARLIER.binding(show=False),
        LATER.binding(show=False),
        LONGER.binding(show=False),
        SHORTER.binding(show=False),
        CLOSE.binding(),
        HELP_SIGN.binding(show=False),
    ]

    def __init__(self, agenda: Agenda, send: SendEdit, *, planned: bool) -> None:
        """`planned` means that the interview waits for its start."""
        super().__init__()
        self._agenda = agenda
        self._send = send
        self._planned = planned
        self._sending = False
        self._changing = 0
        """Number of the topic whose question is being changed; 0 while a topic is added."""
        self._list = TopicList()
        self._entry = Input(max_length=MAX_QUESTION, select_on_focus=False)

    def compose(self) -> ComposeResult:
        yield Static("Agenda", id="title")
        yield Static(
            f"{EARLIER.name} and {LATER.name} move a topic, "
            f"{LONGER.name} and {SHORTER.name} change its minutes",
            id="hint",
        )
        yield self._list
        yield self._entry
        yield Static("", id="problem", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._close_entry()
        self._show()

    def update_agenda(self, agenda: Agenda, *, planned: bool) -> None:
        """Show the server's agenda."""
        self._agenda, self._planned, self._sending = agenda, planned, False
        if self.is_mounted:
            self._show()

    def _show(self) -> None:
        self._list.update_topics(self._agenda)
        self.refresh_bindings()

    def allow_changes(self) -> None:
        """Allow changes again, because the server has rejected the last one."""
        self._sending = False

    # --- Keys ---------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return True to show an action's key, False to hide the key, and None to dim it."""
        if action == "begin":
            return self._planned
        if action in TOPIC_ACTIONS:
            topic = self._list.topic
            return True if topic is not None and topic.status is TopicStatus.PLANNED else None
        return True

    @on(OptionList.OptionHighlighted)
    def _update_keys(self) -> None:
        self.refresh_bindings()

    @on(OptionList.OptionSelected)
    def _change_selected(self) -> None:
        self.action_change()

    def action_begin(self) -> None:
        self.dismiss(True)

    def action_close(self) -> None:
        """Close the text box or, if it is closed, the screen."""
        if self._entry.display:
            self._close_entry()
        else:
            self.dismiss(False)

    def action_add(self) -> None:
        self._open_entry(0, "", "A skill, such as kafka, or a whole question")

    def action_change(self) -> None:
        topic = self._list.topic
        if topic is not None and topic.status is TopicStatus.PLANNED:
            self._open_entry(self._list.number, topic.question, "A whole question")

    async def action_remove(self) -> None:
        await self._edit(lambda: remove_topic(self._agenda, self._list.number))

    async def action_move(self, step: int) -> None:
        number = self._list.number
        if 1 <= number + step <= len(self._agenda.topics):
            await self._edit(lambda: move_topic(self._agenda, number, number + step))

    async def action_minutes(self, step: int) -> None:
        topic = self._list.topic
        if topic is not None:
            minutes = topic.minutes + step
            await self._edit(lambda: set_minutes(self._agenda, self._list.number, minutes))

    # --- Text box -----------------------------------------------------------------------------

    def _open_entry(self, number: int, text: str, placeholder: str) -> None:
        self._changing = number
        self._entry.value = text
        self._entry.placeholder = placeholder
        self._entry.display = True
        self._entry.focus()

    def _close_entry(self) -> None:
        self._entry.display = False
        self._show_problem("")
        self._list.focus()

    @on(Input.Submitted)
    async def _submit(self, event: Input.Submitted) -> None:
        number, text = self._changing, event.value
        if await self._edit(
            lambda: (
                change_question(self._agenda, number, text)
                if number
                else add_topic(self._agenda, text)
            )
        ):
            self._close_entry()

    async def _edit(self, change: Callable[[], list[EditedTopic]]) -> bool:
        """Send a change and return True, or show why it is impossible and return False."""
        if self._sending:
            return False
        try:
            topics = change()
        except UsageError as error:
            self._show_problem(str(error))
            return False
        self._show_problem("")
        self._sending = await self._send(topics)
        return True

    def _show_problem(self, problem: str) -> None:
        self.query_one("#problem", Static).update(problem)
        self.query_one("#problem").display = bool(problem)
