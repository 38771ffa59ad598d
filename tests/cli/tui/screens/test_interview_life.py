"""Connection, errors, hints, ending and leaving on the interview screen."""

import os
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import NotAuthorised, NotFound
from prepcli.tui.app import PrepApp
from prepcli.tui.keys import RETRY
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.widgets.connection import ConnectionBanner
from prepcli.tui.widgets.transcript import Transcript
from prepserver.wire.client_messages import (
    HintRequest,
    InterviewEnd,
    TurnRetry,
    TurnStop,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Error,
    InterviewDeleted,
    InterviewMessage,
    MessageKind,
    Phase,
    StateChanged,
    Status,
)
from tests.cli.tui.screens.interviews import box, ready, status
from tests.cli.tui.screens.support import (
    Clock,
    FakeSession,
    answer,
    asked_once,
    drive,
    headings,
    interview,
    joined,
    message,
    notices,
    question,
    settle,
    shown,
    streamed,
    words,
)


def test_lost_connection_is_shown_and_nothing_typed_is_lost() -> None:
    """While the connection is lost, a banner shows the seconds until the next attempt, and the
    draft is kept."""
    session, room = ready()
    clock = Clock()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"half a")
        room.emit(ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=7.5))
        await settle(pilot)
        banner = app.screen.query_one(ConnectionBanner)
        assert banner.display
        assert "in 8 s" in shown(app)
        clock.time = 7.5
        room.emit(ConnectionChanged(status=ConnectionStatus.CONNECTING))
        await settle(pilot)
        assert banner.display
        assert "now" in shown(app)
        room.emit(*joined(asked_once()))
        await settle(pilot)
        assert not banner.display
        assert box(app).text == "half a"

    drive(watch, session, interview_id="one", monotonic=clock)


def test_failed_turn_can_be_retried() -> None:
    """A failed turn shows the server's message and the key that retries the turn."""
    session, room = ready(asked_once(messages=[question(0), answer(1)], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        error = Error(code=ErrorCode.INFERENCE, message="The model did not answer.", retryable=True)
        room.emit(StateChanged(state=Phase.IDLE, failed=error))
        await settle(pilot)
        failure = str(app.screen.query_one("#failure", Static).render())
        assert "The model did not answer." in failure
        assert RETRY.name in failure
        assert status(app) == "Stopped"
        assert "Try again" in shown(app)
        await pilot.press("ctrl+g")
        await settle(pilot)
        assert isinstance(room.sent[-1], TurnRetry)
        room.emit(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        assert not app.screen.query_one("#failure").display

    drive(watch, session, interview_id="one")


def test_escape_stops_the_interviewer() -> None:
    """Escape stops a running turn, and sends nothing if no turn is running."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("escape")
        await settle(pilot)
        assert room.sent == []
        room.emit(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(room.sent[-1], TurnStop)

    drive(watch, session, interview_id="one")


def test_hint() -> None:
    """Ctrl+T requests a hint, which is shown under its own heading."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert isinstance(room.sent[-1], HintRequest)
        room.emit(StateChanged(state=Phase.HINTING))
        await settle(pilot)
        assert status(app) == "Thinking of a hint…"
        room.emit(InterviewMessage(message=message(1, MessageKind.HINT, "Think of rollback.")))
        room.emit(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        assert headings(app)[-1] == "Hint"
        assert status(app) == "Your turn"

    drive(watch, session, interview_id="one")


def test_ending_is_confirmed() -> None:
    """Ctrl+O ends the interview only after a confirmation."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        await settle(pilot)
        await pilot.press("n")
        await settle(pilot)
        assert room.sent == []
        await pilot.press("ctrl+o")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert isinstance(room.sent[-1], InterviewEnd)

    drive(watch, session, interview_id="one")


def test_completed() -> None:
    """A completed interview shows its closing and its summary, and accepts no answers."""
    over = asked_once(
        interview=interview(asked=5, answered=5, status=Status.COMPLETED),
        messages=[
            question(0),
            answer(1),
            message(2, MessageKind.CLOSING, "Thank you."),
            message(3, MessageKind.SUMMARY, "You **tested** first."),
        ],
    )
    session, room = ready(over)

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = shown(app)
        assert "Interview completed" in screen
        assert "5 of 5 answered" in screen
        assert headings(app)[-2:] == ["Interviewer", "How it went"]
        assert not box(app).display
        assert "Record" not in screen
        await pilot.press("ctrl+r", "x", "enter")
        await settle(pilot)
        assert room.sent == []
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)

    drive(watch, session, interview_id="one")


def test_draft_is_kept_when_the_interview_is_left() -> None:
    """Unsent text is kept when an interview is left, and is in the box when the interview is
    reopened."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"draft", "ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert box(app).text == "draft"

    drive(watch, session, interview_id="one")


@pytest.mark.parametrize("more", ["", "z", " \u00e9\U0001f600", "\n"])
def test_quitting_keeps_the_unsent_answer(more: str) -> None:
    """Quitting asks nothing, because the unsent text is in the box when prep is started again."""

    async def write(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("x", "y")
        box(app).insert(more)
        await pilot.press("ctrl+q")
        await settle(pilot)
        assert app.return_value == 0

    async def read(app: PrepApp, pilot: Pilot[int]) -> None:
        assert box(app).text == f"xy{more}"

    drive(write, ready()[0], interview_id="one")
    drive(read, ready()[0], interview_id="one")


@pytest.mark.parametrize("arrived", [True, False])
def test_answer_on_its_way_is_not_lost(arrived: bool) -> None:
    """An answer that the server had not confirmed at the end of prep is in the box at the next
    start, unless it has arrived."""

    async def write(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"sent", "enter", *"next")
        await settle(pilot)

    async def read(app: PrepApp, pilot: Pilot[int]) -> None:
        assert box(app).text == ("next" if arrived else "sent\nnext")

    drive(write, ready()[0], interview_id="one")
    messages = [question(0), answer(1, "sent"), question(2)] if arrived else [question(0)]
    drive(read, ready(asked_once(messages=messages))[0], interview_id="one")


def test_quitting_asks_if_the_draft_cannot_be_written() -> None:
    """If the disk refuses the unsent text, quitting requires a confirmation."""
    data = Path(os.environ["PREP_DATA_DIR"])
    data.mkdir(parents=True)
    (data / "drafts").write_text("a file where a folder should be")
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("x", "ctrl+q")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        await settle(pilot)
        assert box(app).text == "x"
        await pilot.press("backspace", "ctrl+q")
        await settle(pilot)
        assert app.return_value == 0

    drive(watch, session, interview_id="one")


def test_interview_deleted_elsewhere() -> None:
    """If another client deletes the interview, the list of interviews is shown with a notice."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await settle(pilot)
        room.emit(InterviewDeleted(interview_id="one"))
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["This interview was deleted."]

    drive(watch, session, interview_id="one")


def test_missing_interview() -> None:
    """If the interview to open does not exist, the list of interviews is shown with the reason."""
    session = FakeSession()
    session.interview().emit(NotFound("There is no interview “one”."))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["There is no interview “one”."]

    drive(watch, session, interview_id="one")


def test_not_authorised() -> None:
    """If the server does not accept the access key, the app exits with code 4."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(NotAuthorised("Log in again: prep login."))
        await settle(pilot)
        assert app.return_value == 4

    drive(watch, session, interview_id="one")


def test_candidate_text_is_shown_verbatim() -> None:
    """Markdown in an answer is not rendered, and control characters are replaced."""
    session, _ = ready(asked_once(messages=[question(0), answer(1, "*a* [b](c) \x1b[31mred")]))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert words(app)[-1] == "*a* [b](c) \ufffd[31mred"
        assert "*a* [b](c)" in shown(app)
        assert "\x1b" not in shown(app)

    drive(watch, session, interview_id="one")


def test_scrolled_back_transcript_stays_in_place() -> None:
    """New text does not move a transcript that is scrolled back; once scrolled to its end, the
    transcript follows new text again."""
    past = [
        message
        for place in range(0, 12, 2)
        for message in (question(place), answer(place + 1, "Because. " * 40))
    ]
    session, room = ready(asked_once(messages=past, state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        transcript = app.screen.query_one(Transcript)
        assert transcript.scroll_y == transcript.max_scroll_y > 20
        await pilot.press("pageup", "pageup")
        await settle(pilot)
        there = transcript.scroll_y
        assert there < transcript.max_scroll_y - 10
        room.emit(*streamed("q", ["Why? "] * 60))
        await settle(pilot)
        assert transcript.scroll_y == there
        await pilot.press(*["pagedown"] * 5)
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y
        room.emit(*streamed("q", ["Really? "] * 60, start="Why? " * 60))
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y

    drive(watch, session, interview_id="one")


def test_narrow_terminal() -> None:
    """A terminal with 44 columns shows the activity, the progress and the time, but not the
    allowance."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = shown(app)
        assert "Your turn" in screen
        assert "question 1 of 5 · 0:00" in screen
        assert "requests left" not in screen
        assert all(len(line) <= 44 for line in screen.splitlines())

    drive(watch, session, interview_id="one", size=(44, 20))
