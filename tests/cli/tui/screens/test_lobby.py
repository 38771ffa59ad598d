"""List of interviews: live updates and keys."""

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Checkbox, Input, Select, Static

from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import RateLimited, ServerUnreachable
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.help import HelpScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen, fetch_line
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
    Mode,
    ModelFetch,
    ModelsFetched,
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


def two_interviews() -> FakeSession:
    """Return a session with a newer and an older interview."""
    older = interview(
        "two_interviews", title="Data Engineer", created_at=NOW - 90_000, updated_at=NOW - 90_000
    )
    return FakeSession([older, interview("one")])


def ids(app: PrepApp) -> list[str | None]:
    return [option.id for option in app.screen.query_one(InterviewList).options]


def highlighted(app: PrepApp) -> str:
    found = app.screen.query_one(InterviewList).highlighted_interview
    assert found is not None
    return found.id


def test_list() -> None:
    """Interviews are listed newest first, with their type, level and age."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert ids(app) == ["one", "two_interviews"]
        screen = shown(app)
        assert "Backend Engineer at Acme" in screen
        assert "technical · senior · 3 minutes ago" in screen
        assert "1 day ago" in screen
        assert "enter Open" in screen

    drive(watch, two_interviews())


def test_list_is_live() -> None:
    """Changes by other clients appear in the list, and the cursor stays on the same interview until
    the interview is deleted."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("down")
        assert highlighted(app) == "two_interviews"
        session.lobby.emit(InterviewCreated(interview=interview("new", created_at=NOW)))
        await settle(pilot)
        assert ids(app) == ["new", "one", "two_interviews"]
        assert highlighted(app) == "two_interviews"
        over = interview("one", status=Status.COMPLETED, answered=5)
        session.lobby.emit(InterviewUpdated(interview=over))
        await settle(pilot)
        assert "completed" in shown(app)
        session.lobby.emit(InterviewDeleted(interview_id="two_interviews"))
        await settle(pilot)
        assert ids(app) == ["new", "one"]
        assert highlighted(app) == "one"

    drive(watch, session)


def test_empty_list_names_the_key_to_start() -> None:
    """An empty list names the key that starts an interview."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "Press n" in shown(app)
        assert not app.screen.query_one(InterviewList).display

    drive(watch, FakeSession())


def test_unknown_list_is_not_called_empty() -> None:
    """Before the server has sent the list, the screen does not say that there are no interviews."""
    session = FakeSession()
    session.mute_lobby()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "No interviews yet" not in shown(app)

    drive(watch, session)


def test_enter_opens() -> None:
    """Enter joins the room of the interview under the cursor, and leaving the interview leaves the
    room."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("down", "enter")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert session.interview("two_interviews").entered
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert not session.interview("two_interviews").entered

    drive(watch, session)


def test_delete_asks_first() -> None:
    """An interview is deleted after a confirmation, and leaves the list when the server reports the
    deletion."""
    session = two_interviews()

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
        assert ids(app) == ["two_interviews"]

    drive(watch, session)


def test_failed_delete_keeps_the_interview() -> None:
    """If a deletion fails, the error is shown and the interview stays in the list."""
    session = two_interviews()
    session.rest.error = ServerUnreachable("Nothing answers at http://localhost:1.")

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert notices(app) == ["Nothing answers at http://localhost:1."]
        assert ids(app) == ["one", "two_interviews"]

    drive(watch, session)


def test_lost_connection() -> None:
    """A banner is shown while the connection is lost, and the list is updated after the
    reconnect."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        session.lobby.emit(ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=2.0))
        await settle(pilot)
        assert "reconnecting in 2 s" in shown(app)
        session.lobby.emit(*joined(Snapshot(interviews=[interview("one")])))
        await settle(pilot)
        assert "Connection lost" not in shown(app)
        assert ids(app) == ["one"]

    drive(watch, session)


@pytest.mark.parametrize("mode", list(Mode))
def test_form_has_mode_length_language_and_models(mode: Mode) -> None:
    """The form gives these fields too; a real interview never shows its agenda. A length out of
    range is named."""
    session = FakeSession()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("n")
        await settle(pilot)
        screen = app.screen
        screen.query_one("#minutes", Input).value = "241"
        screen.query_one("#set", Input).value = " standard "
        screen.query_one("#agenda", Checkbox).value = True
        screen.query_one("#language", Select).value = "de"
        screen.query_one("#mode", Select).value = mode
        await pilot.press("ctrl+s")
        await finish(app, pilot, "start")
        assert "240" in str(screen.query_one("#minutes-problem").render())
        assert screen.query_one("#agenda").disabled == (mode is Mode.REAL)
        screen.query_one("#minutes", Input).value = "30"
        await pilot.press("ctrl+s")
        await finish(app, pilot, "start")
        assert session.rest.created == [
            InterviewSpec(
                mode=mode,
                minutes=30,
                language="de",
                model_set="standard",
                review_agenda=mode is Mode.PRACTICE,
            )
        ]

    drive(watch, session)


def test_new_interview(tmp_path: Path) -> None:
    """The form creates an interview from its fields and opens the interview."""
    resume = tmp_path / "resume.txt"
    resume.write_text("Ten years of queues.\n")
    session = two_interviews()

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


def test_invalid_fields_say_what_is_wrong(tmp_path: Path) -> None:
    """Each invalid field shows a message, the first invalid field gets the focus, and nothing is
    created."""
    long = tmp_path / "job.txt"
    long.write_text("x" * (MAX_DOCUMENT + 1))
    session = two_interviews()

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
        assert problems["role"]
        assert problems["company"] == ""
        assert "30" in problems["questions"]
        assert "longer than 32,000 characters" in problems["job"]
        assert "none.txt: No such file" in problems["resume"]
        assert app.focused is app.screen.query_one("#role")
        await pilot.press("x")
        await settle(pilot)
        assert not app.screen.query_one("#role-problem").display
        await pilot.press("escape")
        await settle(pilot)
        assert session.rest.created == []

    drive(watch, session)


def test_rejected_interview_keeps_the_form() -> None:
    """After the server rejects a new interview, the next form contains the same values."""
    session = two_interviews()
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
    """F1 and the question mark each open the help and close it again."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        for key in ("f1", "question_mark"):
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(app.screen, HelpScreen)
            assert "ctrl+r or f2" in shown(app)
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(app.screen, LobbyScreen)

    drive(watch, two_interviews())


def test_appearance() -> None:
    """F9 switches between a dark and a light theme."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert app.current_theme.dark
        await pilot.press("f9")
        assert not app.current_theme.dark
        await pilot.press("f9")
        assert app.current_theme.dark

    drive(watch, two_interviews())


def test_quit() -> None:
    """Pressing q on the list ends the app with exit code 0."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("q")
        await settle(pilot)
        assert app.return_value == 0

    drive(watch, two_interviews())


@pytest.mark.parametrize(
    ("fetch", "line"),
    [
        (None, ""),
        (ModelFetch(model_set="standard", done=0, total=1_265_272_233), "0 of 1,265 MB"),
        (
            ModelFetch(model_set="standard", done=412_400_000, total=1_265_272_233),
            "Fetching the standard models: 412 of 1,265 MB",
        ),
        (
            ModelFetch(model_set="standard", done=1_265_272_233, total=1_265_272_233),
            "The standard models are ready",
        ),
        (
            ModelFetch(model_set="standard", done=1, total=2, error="No\x1b[31m\nnetwork."),
            "could not be fetched. No",
        ),
    ],
)
def test_fetched_models(fetch: ModelFetch | None, line: str) -> None:
    """One line shows the models that the server fetches: their progress, that they are ready, or
    why they could not be fetched. It follows the server's messages and comes with the snapshot."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        label = app.screen.query_one("#fetch", Static)
        assert not label.display
        if fetch is not None:
            session.lobby.emit(ModelsFetched(fetch=fetch))
        else:
            session.lobby.emit(Snapshot(interviews=[]))
        await settle(pilot)
        assert line in shown(app)
        assert label.display is (fetch is not None)
        assert "\x1b" not in fetch_line(fetch)
        session.lobby.emit(Snapshot(interviews=[]))
        await settle(pilot)
        assert not label.display

    drive(watch, session)
