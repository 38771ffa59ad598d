"""What can happen to an interview on the screen, and how it ends."""

from textual.pilot import Pilot
from textual.widgets import Static

from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import NotAuthorised, NotFound
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.widgets.connection import ConnectionBanner
from prepcli.tui.widgets.transcript import Transcript
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Error,
    HintRequest,
    InterviewDeleted,
    InterviewEnd,
    InterviewMessage,
    MessageKind,
    Phase,
    StateChanged,
    Status,
    TurnRetry,
    TurnStop,
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
    notices,
    question,
    said,
    settle,
    shown,
    streamed,
    words,
)


def test_lost_connection_is_shown_and_nothing_typed_is_lost() -> None:
    """The banner counts down to the next attempt; the draft stays; online again, it goes."""
    session, room = ready()
    clock = Clock()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"half a")
        room.say(ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=7.5))
        await settle(pilot)
        banner = app.screen.query_one(ConnectionBanner)
        assert banner.display
        assert "trying again in 8 s" in shown(app)
        clock.time = 7.5
        room.say(ConnectionChanged(status=ConnectionStatus.CONNECTING))
        await settle(pilot)
        assert banner.display
        assert "trying again now" in shown(app)
        room.say(*joined(asked_once()))
        await settle(pilot)
        assert not banner.display
        assert box(app).text == "half a"

    drive(watch, session, interview_id="one", monotonic=clock)


def test_failed_turn_offers_to_try_again() -> None:
    """A turn that failed shows the server's sentence and the key, and the key retries."""
    session, room = ready(asked_once(messages=[question(0), answer(1)], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        error = Error(code=ErrorCode.INFERENCE, message="The model did not answer.", retryable=True)
        room.say(StateChanged(state=Phase.IDLE, failed=error))
        await settle(pilot)
        failure = str(app.screen.query_one("#failure", Static).render())
        assert failure == "The model did not answer. Press ctrl+g to try again."
        assert status(app) == "Stopped"
        assert "Try again" in shown(app)
        await pilot.press("ctrl+g")
        await settle(pilot)
        assert isinstance(room.sent[-1], TurnRetry)
        room.say(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        assert not app.screen.query_one("#failure").display

    drive(watch, session, interview_id="one")


def test_escape_stops_the_interviewer() -> None:
    """Escape stops a model that works, and does nothing when none does."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("escape")
        await settle(pilot)
        assert room.sent == []
        room.say(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(room.sent[-1], TurnStop)

    drive(watch, session, interview_id="one")


def test_hint() -> None:
    """A hint is asked for by key and stands out from what the interviewer asks."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert isinstance(room.sent[-1], HintRequest)
        room.say(StateChanged(state=Phase.HINTING))
        await settle(pilot)
        assert status(app) == "Thinking of a hint…"
        room.say(InterviewMessage(message=said(1, MessageKind.HINT, "Think of rollback.")))
        room.say(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        assert headings(app)[-1] == "Hint"
        assert status(app) == "Your turn"

    drive(watch, session, interview_id="one")


def test_ending_is_confirmed() -> None:
    """The interview ends by key, but only after a yes."""
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
    """A completed interview says so, shows closing and summary, and takes no more answers."""
    over = asked_once(
        interview=interview(asked=5, answered=5, status=Status.COMPLETED),
        messages=[
            question(0),
            answer(1),
            said(2, MessageKind.CLOSING, "Thank you."),
            said(3, MessageKind.SUMMARY, "You **tested** first."),
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
    """What was written and not sent is in the box again when the interview is opened again."""
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


def test_quitting_does_not_lose_an_answer_by_accident() -> None:
    """With an unsent answer in the box prep asks before it ends; without one it just ends."""
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
    """An interview that is deleted by another client closes, with what is open on top of it."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await settle(pilot)
        room.say(InterviewDeleted(interview_id="one"))
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["This interview was deleted."]

    drive(watch, session, interview_id="one")


def test_missing_interview() -> None:
    """An interview that is not there leaves the candidate in the list, with the reason."""
    session = FakeSession()
    session.interview().say(NotFound("There is no interview “one”."))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["There is no interview “one”."]

    drive(watch, session, interview_id="one")


def test_not_authorised() -> None:
    """Without authorisation prep ends with exit code 4."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(NotAuthorised("Log in again: prep login."))
        await settle(pilot)
        assert app.return_value == 4

    drive(watch, session, interview_id="one")


def test_candidate_words_are_shown_as_written() -> None:
    """Markdown in an answer is not interpreted, and escape sequences do not reach the terminal."""
    session, _ = ready(asked_once(messages=[question(0), answer(1, "*a* [b](c) \x1b[31mred")]))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert words(app)[-1] == "*a* [b](c) \ufffd[31mred"
        assert "*a* [b](c)" in shown(app)
        assert "\x1b" not in shown(app)

    drive(watch, session, interview_id="one")


def test_reader_who_went_back_is_left_there() -> None:
    """Page up reads what was said before while new words come; page down follows them again."""
    told = [
        message
        for place in range(0, 12, 2)
        for message in (question(place), answer(place + 1, "Because. " * 40))
    ]
    session, room = ready(asked_once(messages=told, state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        transcript = app.screen.query_one(Transcript)
        assert transcript.scroll_y == transcript.max_scroll_y > 20
        await pilot.press("pageup", "pageup")
        await settle(pilot)
        there = transcript.scroll_y
        assert there < transcript.max_scroll_y - 10
        room.say(*streamed("q", ["Why? "] * 60))
        await settle(pilot)
        assert transcript.scroll_y == there
        await pilot.press(*["pagedown"] * 5)
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y
        room.say(*streamed("q", ["Really? "] * 60, start="Why? " * 60))
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y

    drive(watch, session, interview_id="one")


def test_narrow_terminal() -> None:
    """In 44 columns the state and the time stay, and the rest of the facts go."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = shown(app)
        assert "Your turn" in screen
        assert "question 1 of 5 · 0:00" in screen
        assert "requests left" not in screen
        assert all(len(line) <= 44 for line in screen.splitlines())

    drive(watch, session, interview_id="one", size=(44, 20))
