"""The layout of the interview screen: its widgets from top to bottom, and their content."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Footer, Static

from prepcli.client.state import RoomState, is_completed, is_planned, open_question
from prepcli.terminal_text import one_line
from prepcli.tui.keys import AGENDA, BEGIN, LOBBY, RETRY
from prepcli.tui.screens.conversation import transcript_state
from prepcli.tui.text import Seconds
from prepcli.tui.widgets.answer import AnswerBox
from prepcli.tui.widgets.connection import ConnectionBanner
from prepcli.tui.widgets.interviews import TYPES
from prepcli.tui.widgets.level import LevelMeter
from prepcli.tui.widgets.status import StatusLine, activity, allowance, progress
from prepcli.tui.widgets.transcript import Transcript
from prepserver.wire.protocol import Interview, Mode, Status


class InterviewView(Vertical):
    """Widget that presents a `RoomState` and contains no interview logic."""

    def __init__(self, monotonic: Seconds, *, local: bool) -> None:
        """`local` means that the server is the local server."""
        super().__init__()
        self._monotonic = monotonic
        self._opened = monotonic()
        self._known = False
        self._over = False
        self._title = Static("", id="title", markup=False)
        self._failure = Static("", id="failure", markup=False)
        self._status = StatusLine()
        self._plan = Static("", id="planned-facts", markup=False)
        self._facts = Static("", id="completed-facts", markup=False)
        self.banner = ConnectionBanner(monotonic, local=local)
        self.transcript = Transcript()
        self.meter = LevelMeter()
        self.box = AnswerBox(monotonic)

    def compose(self) -> ComposeResult:
        yield self._title
        yield self.banner
        yield self.transcript
        yield self._failure
        yield self.meter
        yield self._status
        yield self.box
        with Vertical(id="planned"):
            yield Static("Ready to start", id="planned-title")
            yield self._plan
        with Vertical(id="completed"):
            yield Static("Interview completed", id="completed-title")
            yield self._facts
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.meter.display = False
        self.box.focus()
        self.set_interval(1.0, self._tick)

    async def update_view(
        self,
        state: RoomState,
        *,
        pending: str = "",
        opening: bool = False,
        active: bool = False,
        running: bool = False,
    ) -> None:
        """Update every widget. Calls must not overlap.

        `pending` is the text of an unacknowledged answer. `opening` is True while the microphone is
        being opened. `active` is True while the candidate is being recorded. `running` is True from
        the start of a recording until the recording has been sent or discarded.
        """
        self._known = state.interview is not None
        self._over = is_completed(state)
        self._tick()
        await self.transcript.update_transcript(
            transcript_state(state, pending, transcribing=running)
        )
        self._status.activity = activity(
            state.phase,
            streaming=state.streaming,
            opening=opening,
            recording=active,
            failed=state.failed is not None,
            completed=self._over,
            planned=is_planned(state),
            asked=open_question(state) is not None,
            sending=bool(pending) or running,
            known=state.interview is not None,
        )
        self._status.allowance = allowance(state.quota)
        trouble = state.failed or state.doubt
        self._failure.display = trouble is not None
        if trouble is not None:
            retry = f" Press {RETRY.name} to retry." if state.failed else ""
            self._failure.update(f"{one_line(trouble.message)}{retry}")
        self.meter.display = active
        self._show_box(not self._over and not is_planned(state))
        self.query_one("#completed").display = self._over
        self.query_one("#planned").display = is_planned(state)
        start = f"{BEGIN.name} starts the interview"
        shown = f" · {AGENDA.name} shows the agenda" if state.agenda is not None else ""
        self._plan.update(start + shown)
        if state.interview is not None:
            self._describe(state.interview)

    def _show_box(self, display: bool) -> None:
        """Show or hide the answer box, which has the focus while it is shown."""
        if display == self.box.display:
            return
        self.box.display = self.box.can_focus = display
        if display:
            self.box.focus()
        else:
            self.box.blur()

    def _describe(self, interview: Interview) -> None:
        kind = f"{TYPES[interview.type]}, {interview.level.value}"
        if interview.mode is Mode.REAL:
            kind += ", real"
        self._title.update(f"{one_line(interview.title)} · {kind}")
        self._status.progress = progress(interview)
        if interview.status is Status.COMPLETED:
            self._facts.update(f"{progress(interview)} · {LOBBY.name} returns to your interviews")
            # The answer box is gone: let the arrow keys scroll the transcript.
            self.transcript.can_focus = True
            if self.screen.focused in (None, self.box):
                self.transcript.focus()

    def _tick(self) -> None:
        if self._known and not self._over:
            self._status.elapsed = int(self._monotonic() - self._opened)
