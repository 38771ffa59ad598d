"""One interview: the conversation, its live state, and the candidate's answer."""

import time
import uuid
from collections.abc import MutableMapping
from typing import ClassVar

from msgspec import Struct
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType

from prepcli.client.state import is_completed, open_question
from prepcli.errors import NotAuthorised
from prepcli.terminal_text import printable
from prepcli.tui.keys import (
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
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.conversation import answers, why_not_answer
from prepcli.tui.screens.interview_view import InterviewView
from prepcli.tui.screens.recorder import MicrophoneFactory
from prepcli.tui.screens.server import SessionLink
from prepcli.tui.screens.speaking import SpeakingScreen
from prepcli.tui.text import Seconds
from prepserver.wire.limits import MAX_ANSWER
from prepserver.wire.protocol import (
    HintRequest,
    InterviewEnd,
    Phase,
    TurnRetry,
    TurnStop,
    UserMessage,
    UserTyping,
)


class Pending(Struct, frozen=True):
    """An answer that was sent and is not in the transcript yet."""

    id: str
    text: str
    answers_before: int


class InterviewScreen(SpeakingScreen):
    """What the candidate sees while being interviewed, and afterwards."""

    CSS_PATH = "interview.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        RECORD.binding(),
        FINISH.binding(),
        HINT.binding(),
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
        drafts: MutableMapping[str, str] | None = None,
        monotonic: Seconds = time.monotonic,
    ) -> None:
        """`drafts` keeps, by interview, what was written and not sent."""
        super().__init__(session, "interview", interview_id, microphone)
        self.interview_id = interview_id
        self._drafts: MutableMapping[str, str] = {} if drafts is None else drafts
        self._monotonic = monotonic
        self._pending: Pending | None = None
        self._offered_before: dict[str, bool | None] = {}

    def compose(self) -> ComposeResult:
        self._view = InterviewView(self._monotonic)
        yield self._view

    def on_mount(self) -> None:
        self._view.box.put(self._drafts.pop(self.interview_id, ""))

    def on_unmount(self) -> None:
        if (draft := self._draft()).strip():
            self._drafts[self.interview_id] = draft

    # --- What happened ------------------------------------------------------------------------

    async def on_room_changed(self, event: RoomChanged) -> None:
        self.state = event.state
        if self.state.deleted:
            self.app.notify("This interview was deleted.", severity="warning")
            self.leave()
            return
        if self._pending and answers(self.state) > self._pending.answers_before:
            self._pending = None
        await self.refresh_view()

    def on_connection_lost(self, event: ConnectionLost) -> None:
        self._view.banner.lost(event.retry_in)

    def on_connection_restored(self, _: ConnectionRestored) -> None:
        self._view.banner.restored()

    def on_room_left(self, event: RoomLeft) -> None:
        if not isinstance(event.error, NotAuthorised):
            self.app.notify(printable(str(event.error)), severity="warning", markup=False)
            self.leave()

    async def on_failure_reported(self, event: FailureReported) -> None:
        """An answer that was not taken comes back into the box."""
        pending = self._pending
        if pending is None or event.failure.id != pending.id:
            return
        self._view.box.put(self._draft())
        self._pending = None
        await self.refresh_view()

    async def on_answer_typed(self, event: AnswerTyped) -> None:
        if not is_completed(self.state):
            await self.send(UserTyping(draft=event.text[:MAX_ANSWER]))

    async def on_answer_submitted(self, event: AnswerSubmitted) -> None:
        text = event.text.strip()
        if not text:
            return
        if len(text) > MAX_ANSWER:
            self.complain(f"An answer has at most {MAX_ANSWER:,} characters: shorten it.")
            return
        if not self.may_answer():
            return
        message = UserMessage(id=uuid.uuid4().hex, text=text)
        if await self.send(message):
            self._pending = Pending(message.id, text, answers(self.state))
            self._view.box.take(event.text)
            self._view.transcript.follow()
            await self.refresh_view()

    def on_level_measured(self, event: LevelMeasured) -> None:
        self._view.meter.level = event.level
        self._view.meter.seconds = int(event.seconds)

    async def refresh_view(self) -> None:
        """Show the state, and offer the keys that do something in it."""
        await self._view.show(
            self.state,
            pending=self._pending.text if self._pending else "",
            active=self.recorder.active,
            running=self.recorder.running,
        )
        # The footer is made anew each time, which is too much for every word of a stream.
        offered = self._offered()
        if offered != self._offered_before:
            self._offered_before = offered
            self.refresh_bindings()

    # --- Keys ---------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only the keys that do something now are offered; a faint one will do so later."""
        return self._offered().get(action, True)

    def _offered(self) -> dict[str, bool | None]:
        state = self.state
        going = not is_completed(state)
        recording = self.recorder.active
        return {
            "record": going and not recording,
            "finish": recording,
            "discard": recording,
            "hint": going and not recording and (True if open_question(state) else None),
            "stop": not recording and state.phase is not Phase.IDLE,
            "retry": state.failed is not None,
            "end": going and not recording,
        }

    def may_answer(self) -> bool:
        reason = why_not_answer(self.state)
        if self._pending or self.recorder.running:
            reason = "Your last answer is still on its way."
        if reason:
            self.complain(reason)
        return not reason

    async def action_stop(self) -> None:
        """Stop the interviewer."""
        await self.send(TurnStop(id=uuid.uuid4().hex))

    async def action_hint(self) -> None:
        await self.send(HintRequest(id=uuid.uuid4().hex))

    async def action_retry(self) -> None:
        await self.send(TurnRetry(id=uuid.uuid4().hex))

    @work(exclusive=True, group="question")
    async def action_end(self) -> None:
        sure = await self.app.push_screen_wait(
            ConfirmScreen(
                "End the interview now?",
                "The interviewer closes it and sums up what you answered so far.",
                yes="End it",
                no="Go on",
            )
        )
        if sure:
            self.recorder.discard()
            await self.send(InterviewEnd(id=uuid.uuid4().hex))

    @work(exclusive=True, group="question")
    async def action_lobby(self) -> None:
        if await self.sure_to_leave():
            self.recorder.discard()
            self.leave()

    async def sure_to_leave(self, *, prep: bool = False) -> bool:
        if not await super().sure_to_leave(prep=prep):
            return False
        # Going to the list keeps what was written; nothing outlives the application.
        if not prep or not self._draft().strip():
            return True
        return await self.app.push_screen_wait(
            ConfirmScreen(
                "Leave without sending your answer?",
                "The interview is kept, but not what you wrote and have not sent.",
                yes="Leave",
                no="Stay",
            )
        )

    def _draft(self) -> str:
        """What was written and is not known to have arrived."""
        if is_completed(self.state):
            return ""
        sent = self._pending.text if self._pending else ""
        return "\n".join(text for text in (sent, self._view.box.text) if text)

    def action_scroll_transcript(self, direction: int) -> None:
        self._view.transcript.turn_page(direction)
