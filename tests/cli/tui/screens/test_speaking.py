"""Spoken answers on the interview screen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from prepcli.errors import MicrophoneUnavailable
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.speaking import SILENT
from prepcli.tui.widgets.level import LevelMeter
from prepserver.wire.client_messages import TurnStop, UserRecording
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Caption,
    Error,
    Phase,
    StateChanged,
)
from tests.cli.tui.screens.interviews import SECOND, box, ready, status, texts
from tests.cli.tui.screens.support import (
    FakeMicrophone,
    asked_once,
    drive,
    headings,
    notices,
    settle,
)


def test_recording() -> None:
    """Ctrl+R starts a recording and shows its level; a second Ctrl+R sends the recording."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        meter = app.screen.query_one(LevelMeter)
        assert meter.display
        assert meter.seconds == 1
        assert -20 < meter.level < -15
        assert status(app) == "Listening…"
        assert UserRecording() in room.sent
        room.emit(Caption(text="On a copy"))
        await settle(pilot)
        assert headings(app)[-1] == "You · speaking"
        await pilot.press("ctrl+r")
        microphone.add_blocks(SECOND)
        await settle(pilot)
        [recording] = room.recordings
        assert recording.pcm == SECOND * 2
        assert recording.ended == "stopped"
        assert not meter.display
        assert headings(app) == ["Interviewer · question 1"]

    microphone = FakeMicrophone(SECOND)
    drive(watch, session, interview_id="one", microphone=microphone)


def doubt(text: str) -> Error:
    return Error(
        code=ErrorCode.SPEECH_DOUBTFUL,
        message="The words may be wrong.",
        retryable=False,
        details={"text": text},
    )


@pytest.mark.parametrize("draft", ["", "My note."])
@pytest.mark.parametrize("resumed", [True, False])
def test_doubtful_words_are_checked_in_the_box(resumed: bool, draft: str) -> None:
    """The words of a doubtful recording are appended to the text in the box, with the reason above
    it; enter sends the checked text."""
    failed = doubt("We moved it") if resumed else None
    session, room = ready(asked_once(failed=failed))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        if not resumed:
            box(app).set_text(draft)
            room.emit(StateChanged(state=Phase.TRANSCRIBING))
            room.emit(StateChanged(state=Phase.IDLE, failed=doubt("We moved it")))
            await settle(pilot)
        expected = f"{draft}\nWe moved it" if draft and not resumed else "We moved it"
        assert box(app).text == expected
        failure = str(app.screen.query_one("#failure", Static).render())
        assert failure == "The words may be wrong."
        await pilot.press(*" twice", "enter")
        await settle(pilot)
        assert texts(room) == [f"{expected} twice"]

    drive(watch, session, interview_id="one")


@pytest.mark.parametrize(
    ("edit", "remaining"), [("", "The second"), (" twice", "We moved it twice\nThe second")]
)
def test_another_recording_replaces_doubtful_words(edit: str, remaining: str) -> None:
    """The words of another doubtful recording replace those of the first, unless the candidate has
    changed them."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(StateChanged(state=Phase.IDLE, failed=doubt("We moved it")))
        await settle(pilot)
        await pilot.press(*edit)
        room.emit(StateChanged(state=Phase.TRANSCRIBING))
        room.emit(StateChanged(state=Phase.IDLE, failed=doubt("The second")))
        await settle(pilot)
        assert box(app).text == remaining

    drive(watch, session, interview_id="one")


def test_words_that_were_in_doubt_leave_the_box() -> None:
    """After a good recording the box does not keep the words of the doubtful one."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(StateChanged(state=Phase.IDLE, failed=doubt("We moved it")))
        await settle(pilot)
        room.emit(StateChanged(state=Phase.TRANSCRIBING), StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        assert box(app).text == ""
        assert not app.screen.query_one("#failure").display

    drive(watch, session, interview_id="one")


def test_short_recording_is_discarded_by_escape() -> None:
    """Escape discards a short recording without a confirmation."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert status(app) == "Your turn"
        microphone.add_blocks(SECOND)
        await settle(pilot)
        assert [recording.ended for recording in room.recordings] == ["cancelled"]
        assert not app.screen.query_one(LevelMeter).display
        assert not any(isinstance(message, TurnStop) for message in room.sent)

    microphone = FakeMicrophone(SECOND)
    drive(watch, session, interview_id="one", microphone=microphone)


def test_long_recording_is_not_discarded_by_accident() -> None:
    """Discarding a long recording requires a confirmation, during which recording continues."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        microphone.add_blocks(SECOND)
        await settle(pilot)
        assert room.recordings[0].pcm == SECOND * 5
        assert room.recordings[0].ended == ""
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("y")
        microphone.add_blocks(SECOND)
        await settle(pilot)
        assert room.recordings[0].ended == "cancelled"

    microphone = FakeMicrophone(*[SECOND] * 4)
    drive(watch, session, interview_id="one", microphone=microphone)


def test_leaving_cancels_a_recording() -> None:
    """Leaving the screen cancels a recording instead of sending it in part."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert [recording.ended for recording in room.recordings] == ["cancelled"]

    drive(watch, session, interview_id="one", microphone=FakeMicrophone(SECOND))


def test_no_microphone() -> None:
    """If the microphone is unavailable, the recording key shows the reason, and answers can still
    be typed."""
    session, room = ready()
    reason = "The microphone needs PortAudio, which is not installed."

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert notices(app) == [reason]
        assert room.recordings == []
        assert status(app) == "Your turn"
        await pilot.press(*"typed", "enter")
        await settle(pilot)
        assert texts(room) == ["typed"]

    microphone = FakeMicrophone(error=MicrophoneUnavailable(reason))
    drive(watch, session, interview_id="one", microphone=microphone)


class SlowMicrophone(FakeMicrophone):
    """Microphone that opens when `opens` is set."""

    def __init__(self, *blocks: bytes) -> None:
        super().__init__(*blocks)
        self.opens = asyncio.Event()
        self.given_up = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            await self.opens.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        async with super().__call__() as blocks:
            yield blocks


def test_microphone_that_opens_slowly() -> None:
    """While the microphone is being opened, the screen says so, keys appear and no answer is sent;
    then the recording starts."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert status(app) == "Opening the microphone…"
        assert not app.screen.query_one(LevelMeter).display
        await pilot.press("ctrl+r", *"typed", "enter")
        await settle(pilot)
        assert texts(room) == []
        assert notices(app) == ["The microphone is being opened. Press esc to cancel that first."]
        microphone.opens.set()
        await settle(pilot)
        assert status(app) == "Listening…"
        assert len(room.recordings) == 1

    microphone = SlowMicrophone(SECOND)
    drive(watch, session, interview_id="one", microphone=microphone)


def test_opening_is_cancelled_by_escape() -> None:
    """Escape gives up a microphone that is being opened. The typed text remains and can be sent,
    and the next recording opens the microphone again."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"typed", "ctrl+r")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert microphone.given_up == 1
        assert status(app) == "Your turn"
        assert room.recordings == []
        microphone.opens.set()
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert status(app) == "Listening…"
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert texts(room) == ["typed"]

    microphone = SlowMicrophone(SECOND)
    drive(watch, session, interview_id="one", microphone=microphone)


def test_leaving_gives_up_the_microphone() -> None:
    """Leaving the screen while the microphone is being opened needs no confirmation, because
    nothing is lost."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert microphone.given_up == 1
        assert room.recordings == []

    microphone = SlowMicrophone(SECOND)
    drive(watch, session, interview_id="one", microphone=microphone)


def test_silent_microphone() -> None:
    """A warning names the causes of a microphone that delivers only silence."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert notices(app) == [SILENT]
        assert status(app) == "Listening…"

    microphone = FakeMicrophone(*[bytes(len(SECOND))] * 5)
    drive(watch, session, interview_id="one", microphone=microphone)
