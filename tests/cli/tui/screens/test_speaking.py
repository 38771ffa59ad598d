"""Spoken answers on the interview screen."""

from textual.pilot import Pilot

from prepcli.errors import MicrophoneUnavailable
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.widgets.level import LevelMeter
from prepserver.wire.protocol import (
    Caption,
    TurnStop,
    UserRecording,
)
from tests.cli.tui.screens.interviews import SECOND, ready, status, texts
from tests.cli.tui.screens.support import (
    FakeMicrophone,
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
