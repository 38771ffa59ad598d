"""The interview screen: the conversation, its live state, and the answer box."""

import time
import uuid
from typing import ClassVar

from msgspec import Struct
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import TextArea

from prepcli.client.state import is_completed, is_planned, open_question
from prepcli.drafts import Draft, DraftStore
from prepcli.errors import LocalServerFailed, NotAuthorised
from prepcli.terminal_text import printable
from prepcli.tui.draft_saver import DraftSaver
from prepcli.tui.keys import (
    AGENDA,
    ASK,
    BEGIN,
    DISCARD,
    END,
    FINISH,
    HINT,
    LOBBY,
    RECORD,
    RETRY,
    SCROLL_DOWN,
    SCROLL_UP,
    STOP,
)
from prepcli.tui.links import SessionLink
from prepcli.tui.messages import (
    AnswerSubmitted,
    AnswerTyped,
    ConnectionLost,
    ConnectionRestored,
    FailureReported,
    LevelMeasured,
    RoomChanged,
    RoomLeft,
)
from prepcli.tui.screens.agenda import AgendaScreen
from prepcli.tui.screens.ask import REQUESTS, AskScreen
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.conversation import count_answers, is_answer, reason_not_to_answer
from prepcli.tui.screens.interview_view import InterviewView
from prepcli.tui.screens.recorder import MicrophoneFactory
from prepcli.tui.screens.speaking import SpeakingScreen
from prepcli.tui.text import Seconds
from prepserver.wire.agenda import EditedTopic
from prepserver.wire.client_messages import (
    AgendaEdit,
    HintRequest,
    InterviewEnd,
    InterviewStart,
    TurnRetry,
    TurnStop,
    UserMessage,
    UserTyping,
)
from prepserver.wire.limits import MAX_ANSWER
from prepserver.wire.protocol import Mode, Phase


class Pending(Struct, frozen=True):
    """An answer that has been sent but is not in the transcript yet."""

    id: str
    text: str
    answers_before: int


class InterviewScreen(SpeakingScreen):
    """Screen of one interview, running or completed."""

    CSS_PATH = "interview.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        RECORD.binding(),
        FINISH.binding(),
        HINT.binding(),
        BEGIN.binding(),
        ASK.binding(),
        AGENDA.binding(show=False),
        RETRY.binding(),
        STOP.binding(),
        DISCARD.binding(),
        END.binding(),
        LOBBY.binding(),
        SCROLL_UP.binding(show=False, priority=True),
        SCROLL_DOWN.binding(show=False, priority=True),
    ]

    def __init__(
        self,
        session: SessionLink,
        interview_id: str,
        *,
        microphone: MicrophoneFactory,
        drafts: DraftStore,
        monotonic: Seconds = time.monotonic,
    ) -> None:
        """`drafts` keeps unsent text by the interview's id. The store outlives the screen."""
        super().__init__(session, "interview", interview_id, microphone)
        self.interview_id = interview_id
        self._drafts = DraftSaver(self, drafts, interview_id)
        self._restored = ""
        """Answer of a restored draft that may have arrived at the server."""
        self._monotonic = monotonic
        self._pending: Pending | None = None
        self._offered = ""
        """Doubtful text of a recording that was put into the box; empty if there is none."""
        self._agenda: AgendaScreen | None = None
        """Screen that was opened last for the agenda."""
        self._offered_agenda = False
        """True once the agenda was opened by itself, because the interview waits for its start."""
        self._shown_actions: dict[str, bool | None] = {}

    def compose(self) -> ComposeResult:
        self._view = InterviewView(self._monotonic, local=self.session.local)
        yield self._view

    def on_mount(self) -> None:
        draft = self._drafts.load()
        self._restored = draft.sent
        self._view.box.set_text("\n".join(text for text in (draft.sent, draft.text) if text))

    def on_unmount(self) -> None:
        if self.state.deleted:
            self._drafts.finish(Draft())
        else:
            self._drafts.finish(self._draft())

    # --- Messages -----------------------------------------------------------------------------

    async def on_room_changed(self, event: RoomChanged) -> None:
        doubt_before, agenda_before = self.state.doubt, self.state.agenda
        self.state = event.state
        if self.state.doubt != doubt_before:
            self._offer_doubtful_text()
        if self.state.deleted:
            self.app.notify("This interview was deleted.", severity="warning")
            self.leave()
            return
        if self._pending and count_answers(self.state) > self._pending.answers_before:
            self._pending = None
            self._drafts.changed(self._draft)
        if self._restored and self.state.known:
            self._forget_restored()
        await self.refresh_view()
        if self.state.agenda is not agenda_before:
            self._update_agenda()

    def _update_agenda(self) -> None:
        """Show a new agenda on its screen, and open that screen once before the start."""
        if self.state.agenda is None:
            return
        planned = is_planned(self.state)
        if self._agenda is not None and self._agenda in self.app.screen_stack:
            self._agenda.update_agenda(self.state.agenda, planned=planned)
        elif planned and not self._offered_agenda:
            self._offered_agenda = True
            self.action_agenda()

    def _forget_restored(self) -> None:
        """Take the answer of a restored draft out of the box if it has arrived at the server."""
        restored, self._restored = self._restored, ""
        if any(is_answer(message) and message.text == restored for message in self.state.messages):
            self._view.box.remove_sent(restored)
            self._view.box.set_text(self._view.box.text.removeprefix("\n"))

    async def reopen_room(self) -> None:
        await super().reopen_room()
        if self._pending is not None:
            # With the same id, an answer that has arrived is not applied twice.
            await self.send_message(UserMessage(id=self._pending.id, text=self._pending.text))

    @on(TextArea.Changed)
    def _save_draft(self) -> None:
        self._drafts.changed(self._draft)

    def _offer_doubtful_text(self) -> None:
        """Put the doubtful text of the last recording into the box, where the candidate checks and
        sends it. Remove the text of an earlier recording unless the candidate has changed it."""
        doubt, box = self.state.doubt, self._view.box
        if box.text == self._offered:
            box.set_text("")
        self._offered = printable(str(doubt.details.get("text", ""))) if doubt else ""
        if self._offered not in box.text:
            box.set_text("\n".join(text for text in (box.text, self._offered) if text))

    def on_connection_lost(self, event: ConnectionLost) -> None:
        self._view.banner.show_offline(event.retry_in)

    def on_connection_restored(self, _: ConnectionRestored) -> None:
        self._view.banner.hide()

    def on_room_left(self, event: RoomLeft) -> None:
        if not isinstance(event.error, NotAuthorised | LocalServerFailed):
            self.app.notify(printable(str(event.error)), severity="warning", markup=False)
            self.leave()

    async def on_failure_reported(self, event: FailureReported) -> None:
        """Put the unacknowledged answer back into the box if the server has rejected it."""
        if self._agenda is not None:
            self._agenda.allow_changes()
        pending = self._pending
        if pending is None or event.failure.id != pending.id:
            return
        texts = (pending.text, self._view.box.text)
        self._view.box.set_text("\n".join(text for text in texts if text))
        self._pending = None
        self._drafts.changed(self._draft)
        await self.refresh_view()

    async def on_answer_typed(self, event: AnswerTyped) -> None:
        if not is_completed(self.state):
            await self.send_message(UserTyping(draft=event.text[:MAX_ANSWER]))

    async def on_answer_submitted(self, event: AnswerSubmitted) -> None:
        text = event.text.strip()
        if not text:
            return
        if len(text) > MAX_ANSWER:
            self.show_warning(
                f"An answer may have at most {MAX_ANSWER:,} characters. Shorten your answer."
            )
            return
        if not self.may_answer():
            return
        message = UserMessage(id=uuid.uuid4().hex, text=text)
        if await self.send_message(message):
            self._pending = Pending(message.id, text, count_answers(self.state))
            self._view.box.remove_sent(event.text)
            self._drafts.changed(self._draft)
            self._view.transcript.follow()
            await self.refresh_view()

    def on_level_measured(self, event: LevelMeasured) -> None:
        self._view.meter.level = event.level
        self._view.meter.seconds = int(event.seconds)

    async def refresh_view(self) -> None:
        """Show the state, and update the keys in the footer."""
        await self._view.update_view(
            self.state,
            pending=self._pending.text if self._pending else "",
            opening=self.recorder.opening,
            active=self.recorder.active,
            running=self.recorder.running,
        )
        # Rebuilding the footer is too slow for every delta of a stream.
        actions = self._available_actions()
        if actions != self._shown_actions:
            self._shown_actions = actions
            self.refresh_bindings()

    # --- Keys ---------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return True to show an action's key, False to hide the key, and None to dim it."""
        return self._available_actions().get(action, True)

    def _available_actions(self) -> dict[str, bool | None]:
        state = self.state
        planned = is_planned(state)
        active = not is_completed(state) and not planned
        real = state.interview is not None and state.interview.mode is Mode.REAL
        asked = True if open_question(state) else None
        recording = self.recorder.active or self.recorder.opening
        return {
            "record": active and not recording,
            "finish": self.recorder.active,
            "discard": recording,
            "hint": active and not recording and not real and asked,
            "begin": planned,
            "ask": active and not recording and asked,
            "agenda": state.agenda is not None and not recording,
            "stop": not recording and state.phase is not Phase.IDLE,
            "retry": state.failed is not None,
            "end": active and not recording,
        }

    def may_answer(self) -> bool:
        reason = reason_not_to_answer(self.state)
        if self.recorder.opening:
            reason = f"The microphone is being opened. Press {DISCARD.name} to cancel that first."
        elif self._pending or self.recorder.running:
            reason = "Your last answer is still being sent."
        if reason:
            self.show_warning(reason)
        return not reason

    async def action_stop(self) -> None:
        """Ask the server to stop the current turn."""
        await self.send_message(TurnStop(id=uuid.uuid4().hex))

    async def action_hint(self) -> None:
        self._view.transcript.follow()
        await self.send_message(HintRequest(id=uuid.uuid4().hex))

    async def action_begin(self) -> None:
        await self.send_message(InterviewStart(id=uuid.uuid4().hex))

    @work(exclusive=True, group="question")
    async def action_ask(self) -> None:
        """Let the user choose a request, and send it."""
        chosen = await self.app.push_screen_wait(AskScreen())
        if chosen and self.may_answer():
            self._view.transcript.follow()
            await self.send_message(REQUESTS[chosen](id=uuid.uuid4().hex))

    @work(exclusive=True, group="question")
    async def action_agenda(self) -> None:
        """Show the agenda, and start the interview if the user wants to."""
        if self.state.agenda is None:
            return
        planned = is_planned(self.state)
        self._agenda = AgendaScreen(self.state.agenda, self._edit_agenda, planned=planned)
        if await self.app.push_screen_wait(self._agenda) and is_planned(self.state):
            await self.action_begin()

    async def _edit_agenda(self, topics: list[EditedTopic]) -> bool:
        return await self.send_message(AgendaEdit(id=uuid.uuid4().hex, topics=topics))

    async def action_retry(self) -> None:
        await self.send_message(TurnRetry(id=uuid.uuid4().hex))

    @work(exclusive=True, group="question")
    async def action_end(self) -> None:
        confirmed = await self.app.push_screen_wait(
            ConfirmScreen(
                "End the interview now?",
                "The interviewer will say goodbye and sum up your answers so far.",
                yes="End it",
                no="Continue",
            )
        )
        if confirmed:
            self.recorder.discard()
            await self.send_message(InterviewEnd(id=uuid.uuid4().hex))

    @work(exclusive=True, group="question")
    async def action_lobby(self) -> None:
        if await self.confirm_leaving():
            self.recorder.discard()
            self.leave()

    async def confirm_leaving(self, *, quitting: bool = False) -> bool:
        if not await super().confirm_leaving(quitting=quitting):
            return False
        if not quitting:
            return True
        self._drafts.finish(self._draft())
        if not self._drafts.problem:
            return True
        return await self.app.push_screen_wait(
            ConfirmScreen(
                "Leave without sending your answer?",
                "The interview is saved, but your unsent text will be lost, because it cannot be "
                f"written to the disk: {self._drafts.problem}.",
                yes="Leave",
                no="Stay",
            )
        )

    def _draft(self) -> Draft:
        """Return the unconfirmed answer and the text in the box, or an empty draft if the interview
        is completed."""
        if is_completed(self.state):
            return Draft()
        sent = self._pending.text if self._pending else ""
        return Draft(text=self._view.box.text, sent=sent)

    def action_scroll_transcript(self, direction: int) -> None:
        self._view.transcript.scroll_by_page(direction)
