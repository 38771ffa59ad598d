"""Recording of spoken answers on the interview screen."""

from textual import work

from prepcli.tui.links import SessionLink
from prepcli.tui.messages import (
    MicrophoneOpening,
    RecordingDelivered,
    RecordingEnded,
    RecordingSilent,
    RecordingStarted,
)
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.recorder import MicrophoneFactory, Recorder
from prepcli.tui.screens.room import RoomScreen
from prepcli.tui.text import duration

DISCARD_UNASKED = 3.0
"""Length in seconds below which a recording is discarded without asking the user."""

SILENT = (
    "The microphone delivers only silence. Unmute it, allow the terminal to use it in the system's "
    "settings, or select another input there."
)


class SpeakingScreen(RoomScreen):
    """A room screen that records spoken answers, one at a time.

    Subclasses bind RECORD, FINISH and DISCARD, because a binding in a subclass replaces its base
    class's binding of the same key.
    """

    def __init__(
        self, session: SessionLink, party: str, name: str, microphone: MicrophoneFactory
    ) -> None:
        super().__init__(session, party, name)
        self.recorder = Recorder(microphone, self.post_message)

    async def refresh_view(self) -> None:
        """Show the states of the room and of the recorder."""
        raise NotImplementedError

    def may_answer(self) -> bool:
        """Return True if an answer may be given now; otherwise show the reason and return False."""
        raise NotImplementedError

    # --- Messages -----------------------------------------------------------------------------

    async def on_microphone_opening(self, _: MicrophoneOpening) -> None:
        await self.refresh_view()

    async def on_recording_started(self, _: RecordingStarted) -> None:
        await self.refresh_view()

    def on_recording_silent(self, _: RecordingSilent) -> None:
        self.show_warning(SILENT)

    async def on_recording_ended(self, event: RecordingEnded) -> None:
        if event.reason:
            self.show_warning(event.reason)
        await self.refresh_view()

    async def on_recording_delivered(self, _: RecordingDelivered) -> None:
        await self.refresh_view()

    # --- Keys ---------------------------------------------------------------------------------

    def action_record(self) -> None:
        """Start recording if an answer may be given now."""
        if self.may_answer():
            self._record()

    @work(exclusive=True, group="recording")
    async def _record(self) -> None:
        await self.recorder.record(self.room)

    async def action_finish(self) -> None:
        """Stop recording and send the answer."""
        self.recorder.finish()
        await self.refresh_view()

    @work(exclusive=True, group="question")
    async def action_discard(self) -> None:
        """Discard the recording. Unless it is shorter than `DISCARD_UNASKED` seconds, ask the user
        first."""
        if await self._confirm_discarding():
            self.recorder.discard()
            await self.refresh_view()

    async def confirm_leaving(self, *, quitting: bool = False) -> bool:
        if self.recorder.active:
            return await self._confirm_discarding()
        if self.recorder.opening or not self.recorder.running:
            return True
        return await self.app.push_screen_wait(
            ConfirmScreen(
                "Leave before your answer is sent?",
                "Your recording is still being sent and will be lost.",
                yes="Leave",
                no="Stay",
            )
        )

    async def _confirm_discarding(self) -> bool:
        if self.recorder.seconds < DISCARD_UNASKED:
            return True
        return await self.app.push_screen_wait(
            ConfirmScreen(
                "Discard the recording?",
                f"{duration(self.recorder.seconds)} of speech will be lost. Recording continues.",
                yes="Discard",
                no="Keep recording",
            )
        )
