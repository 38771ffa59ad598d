"""Answering aloud: the part of an interview's screen that has to do with the microphone."""

from textual import work

from prepcli.tui.messages import RecordingBegan, RecordingDelivered, RecordingEnded
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.recorder import MicrophoneFactory, Recorder
from prepcli.tui.screens.room import RoomScreen
from prepcli.tui.screens.server import SessionLink
from prepcli.tui.text import length

DISCARD_UNASKED = 3.0
"""Seconds of a recording that may be thrown away without asking."""


class SpeakingScreen(RoomScreen):
    """A room in which one may speak. One recording at a time.

    Subclasses bind the keys RECORD, FINISH and DISCARD: of one key, Textual knows only what the
    last class binds to it.
    """

    def __init__(
        self, session: SessionLink, party: str, name: str, microphone: MicrophoneFactory
    ) -> None:
        super().__init__(session, party, name)
        self.recorder = Recorder(microphone, self.post_message)

    async def refresh_view(self) -> None:
        """Show the state, and whether somebody is being recorded."""
        raise NotImplementedError

    def may_answer(self) -> bool:
        """Whether an answer would be taken now; if not, the person is told why."""
        raise NotImplementedError

    # --- What happened ------------------------------------------------------------------------

    async def on_recording_began(self, _: RecordingBegan) -> None:
        await self.refresh_view()

    async def on_recording_ended(self, event: RecordingEnded) -> None:
        if event.reason:
            self.complain(event.reason)
        await self.refresh_view()

    async def on_recording_delivered(self, _: RecordingDelivered) -> None:
        await self.refresh_view()

    # --- Keys ---------------------------------------------------------------------------------

    def action_record(self) -> None:
        """Start speaking."""
        if self.may_answer():
            self._record()

    @work(exclusive=True, group="recording")
    async def _record(self) -> None:
        await self.recorder.run(self.room)

    async def action_finish(self) -> None:
        """End the recording and answer with it."""
        self.recorder.finish()
        await self.refresh_view()

    @work(exclusive=True, group="question")
    async def action_discard(self) -> None:
        """Forget the recording."""
        if await self._sure_to_discard():
            self.recorder.discard()
            await self.refresh_view()

    async def sure_to_leave(self, *, prep: bool = False) -> bool:
        if self.recorder.active:
            return await self._sure_to_discard()
        if not self.recorder.running:
            return True
        return await self.app.push_screen_wait(
            ConfirmScreen(
                "Leave before your answer has arrived?",
                "What you said is still on its way to the server and would be lost.",
                yes="Leave",
                no="Stay",
            )
        )

    async def _sure_to_discard(self) -> bool:
        if self.recorder.seconds < DISCARD_UNASKED:
            return True
        return await self.app.push_screen_wait(
            ConfirmScreen(
                "Discard the recording?",
                f"{length(self.recorder.seconds)} of speech is lost. Until then it goes on.",
                yes="Discard",
                no="Go on speaking",
            )
        )
