"""The list of interviews: live, and driven by keys alone."""

from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import RateLimited, ServerUnreachable
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.help import HelpScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.new_interview import NewInterviewScreen
from prepcli.tui.widgets.interviews import InterviewList
from prepserver.wire.limits import MAX_DOCUMENT
from prepserver.wire.protocol import (
    InterviewCreated,
    InterviewDeleted,
    InterviewSpec,
    InterviewType,
    InterviewUpdated,
    Level,
    Snapshot,
    Status,
)
from tests.cli.tui.screens.support import (
    NOW,
    FakeSession,
    drive,
    finish,
    interview,
    joined,
    notices,
    settle,
    shown,
)


def two() -> FakeSession:
    """A session with a newer and an older interview."""
    older = interview(
        "two", title="Data Engineer", created_at=NOW - 90_000, updated_at=NOW - 90_000
    )
    return FakeSession([older, interview("one")])


def ids(app: PrepApp) -> list[str | None]:
    return [option.id for option in app.screen.query_one(InterviewList).options]


def chosen(app: PrepApp) -> str:
    highlighted = app.screen.query_one(InterviewList).chosen
    assert highlighted is not None
    return highlighted.id


def test_list() -> None:
    """Interviews are listed newest first, with what they are and how far they are."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert ids(app) == ["one", "two"]
        screen = shown(app)
        assert "Backend Engineer at Acme" in screen
        assert "technical · senior · 3 minutes ago" in screen
        assert "1 day ago" in screen
        assert "enter Open" in screen

    drive(watch, two())


def test_list_is_live() -> None:
    """What other clients create, change and delete is seen; the highlight stays where it was."""
    session = two()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("down")
        assert chosen(app) == "two"
        session.lobby.say(InterviewCreated(interview=interview("new", created_at=NOW)))
        await settle(pilot)
        assert ids(app) == ["new", "one", "two"]
        assert chosen(app) == "two"
        over = interview("one", status=Status.COMPLETED, answered=5)
        session.lobby.say(InterviewUpdated(interview=over))
        await settle(pilot)
        assert "completed" in shown(app)
        session.lobby.say(InterviewDeleted(interview_id="two"))
        await settle(pilot)
        assert ids(app) == ["new", "one"]
        assert chosen(app) == "one"

    drive(watch, session)


def test_empty_list_says_how_to_begin() -> None:
    """Without interviews the screen says which key begins one."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "Press n to begin the first one." in shown(app)
        assert not app.screen.query_one(InterviewList).display

    drive(watch, FakeSession())


def test_unknown_list_is_not_empty() -> None:
    """Before the server has answered nothing is said about how many interviews there are."""
    session = FakeSession()
    session.silence()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "No interviews yet" not in shown(app)

    drive(watch, session)


def test_enter_opens() -> None:
    """Enter opens the interview under the highlight, in its own room."""
    session = two()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("down", "enter")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert session.interview("two").entered
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert not session.interview("two").entered

    drive(watch, session)


def test_delete_asks_first() -> None:
    """An interview is deleted after a yes, and leaves the list when the server says so."""
    session = two()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("d")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        assert "Delete “Backend Engineer at Acme”?" in shown(app)
        await pilot.press("escape")
        await settle(pilot)
        assert session.rest.deleted == []
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert session.rest.deleted == ["one"]
        assert ids(app) == ["two"]

    drive(watch, session)


def test_failed_delete_keeps_the_interview() -> None:
    """When the server cannot be reached the sentence is shown and the list stays true."""
    session = two()
    session.rest.error = ServerUnreachable("Nothing answers at http://localhost:1.")

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert notices(app) == ["Nothing answers at http://localhost:1."]
        assert ids(app) == ["one", "two"]

    drive(watch, session)


def test_lost_connection() -> None:
    """The list says that it cannot hear the server, and stops saying so when it can."""
    session = two()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        session.lobby.say(ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=2.0))
        await settle(pilot)
        assert "Connection lost, trying again in 2 s" in shown(app)
        session.lobby.say(*joined(Snapshot(interviews=[interview("one")])))
        await settle(pilot)
        assert "Connection lost" not in shown(app)
        assert ids(app) == ["one"]

    drive(watch, session)


def test_new_interview(tmp_path: Path) -> None:
    """The form makes an interview of what is written in it, and opens it."""
    resume = tmp_path / "resume.txt"
    resume.write_text("Ten years of queues.\n")
    session = two()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("n")
        await settle(pilot)
        await pilot.press(*"SRE", "tab", *"Initech", "tab")
        await pilot.press("enter", "down", "enter", "tab")
        await pilot.press("enter", "down", "enter", "tab")
        await pilot.press("3", "tab", "tab")
        app.screen.query_one("#resume", Input).value = str(resume)
        await pilot.press("ctrl+s")
        await finish(app, pilot, "start")
        assert session.rest.created == [
            InterviewSpec(
                role="SRE",
                company="Initech",
                type=InterviewType.BEHAVIOURAL,
                level=Level.SENIOR,
                questions=3,
                resume="Ten years of queues.\n",
            )
        ]
        assert isinstance(app.screen, InterviewScreen)
        assert app.screen.interview_id == "new"

    drive(watch, session)


def test_wrong_fields_say_what_is_wrong(tmp_path: Path) -> None:
    """Every wrong field has its sentence beside it, the first has the focus, nothing is made."""
    long = tmp_path / "job.txt"
    long.write_text("x" * (MAX_DOCUMENT + 1))
    session = two()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("n")
        await settle(pilot)
        for name, value in {
            "role": " ",
            "questions": "31",
            "job": str(long),
            "resume": str(tmp_path / "none.txt"),
        }.items():
            app.screen.query_one(f"#{name}", Input).value = value
        await pilot.press("ctrl+s")
        await finish(app, pilot, "start")
        assert isinstance(app.screen, NewInterviewScreen)
        problems = {
            name: str(app.screen.query_one(f"#{name}-problem").render())
            for name in ("role", "company", "questions", "job", "resume")
        }
        assert problems["role"] == "Name the role, such as Backend Engineer."
        assert problems["company"] == ""
        assert problems["questions"] == "A number from 1 to 30."
        assert "longer than 32,000 characters" in problems["job"]
        assert "none.txt cannot be read" in problems["resume"]
        assert app.focused is app.screen.query_one("#role")
        await pilot.press("x")
        await settle(pilot)
        assert not app.screen.query_one("#role-problem").display
        await pilot.press("escape")
        await settle(pilot)
        assert session.rest.created == []

    drive(watch, session)


def test_refused_interview_keeps_the_form() -> None:
    """When an interview cannot be made, the next form says what the last one said."""
    session = two()
    session.rest.error = RateLimited("No requests are left until 12:00.")

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("n")
        await settle(pilot)
        await pilot.press(*"SRE", "ctrl+s")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["No requests are left until 12:00."]
        await pilot.press("n")
        await settle(pilot)
        assert app.screen.query_one("#role", Input).value == "SRE"

    drive(watch, session)


def test_help_lists_the_keys() -> None:
    """Help is a key away, also by its sign, and goes by the key it came with."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        for key in ("f1", "question_mark"):
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(app.screen, HelpScreen)
            assert "ctrl+r or f2" in shown(app)
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(app.screen, LobbyScreen)

    drive(watch, two())


def test_appearance() -> None:
    """A key changes between dark and light."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert app.current_theme.dark
        await pilot.press("f9")
        assert not app.current_theme.dark
        await pilot.press("f9")
        assert app.current_theme.dark

    drive(watch, two())


def test_quit() -> None:
    """The letter q leaves with exit code 0."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("q")
        await settle(pilot)
        assert app.return_value == 0

    drive(watch, two())
