"""How the application begins and ends."""

import asyncio
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from prepcli.errors import LocalServerFailed, PrepError
from prepcli.tui.app import PrepApp, last_worked_on
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.starting import StartingScreen
from prepserver.wire.protocol import InterviewSpec, Status
from tests.cli.tui.screens.support import (
    NOW,
    Clock,
    Ears,
    FakeSession,
    interview,
    settle,
    shown,
)


@pytest.fixture(autouse=True)
def no_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own looks do not matter here."""
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)


def test_start_up_is_shown() -> None:
    """While the server gets ready the screen says what is being waited for, then the list comes."""
    ready = asyncio.Event()

    async def connect(on_progress: Callable[[str], None]) -> FakeSession:
        on_progress("Loading the language model…")
        await ready.wait()
        return FakeSession()

    async def run() -> None:
        app = PrepApp(connect, microphone=Ears(), monotonic=Clock())
        async with app.run_test() as pilot:
            await settle(pilot)
            assert isinstance(app.screen, StartingScreen)
            assert "Loading the language model…" in shown(app)
            ready.set()
            await settle(pilot)
            assert isinstance(app.screen, LobbyScreen)

    asyncio.run(run())


def test_failed_start_ends_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """When there is no server, prep ends with the code and the sentence of the error."""

    async def connect(_: Callable[[str], None]) -> FakeSession:
        raise LocalServerFailed("The server ended at once.")

    async def run() -> PrepApp:
        app = PrepApp(connect, microphone=Ears(), monotonic=Clock())
        async with app.run_test() as pilot:
            await settle(pilot)
        return app

    app = asyncio.run(run())
    assert app.return_value == 3
    assert app.return_code == 3


def begun(session: FakeSession, **options: object) -> PrepApp:
    """The app after its start, for what it shows first."""

    async def connect(_: Callable[[str], None]) -> FakeSession:
        return session

    async def run(app: PrepApp) -> None:
        async with app.run_test() as pilot:
            await settle(pilot)
            first.append(showing(app))
            await leave(app, pilot)

    first: list[str] = []
    app = PrepApp(connect, microphone=Ears(), now=Clock(NOW), monotonic=Clock(), **options)  # type: ignore[arg-type]
    asyncio.run(run(app))
    app.title = first[0]
    return app


def showing(app: PrepApp) -> str:
    """The id of the interview on the screen; `list` for the list."""
    screen = app.screen
    return screen.interview_id if isinstance(screen, InterviewScreen) else "list"


async def leave(app: PrepApp, pilot: Pilot[int]) -> None:
    """From an interview one key leads back to the list."""
    await pilot.press("ctrl+l")
    await settle(pilot)
    assert isinstance(app.screen, LobbyScreen)


def test_begins_with_the_list() -> None:
    """Unless something else is asked for, the list of interviews comes first."""
    assert begun(FakeSession([interview()])).title == "list"


def test_begins_with_a_new_interview() -> None:
    """An interview described on the command line is created and opened."""
    session = FakeSession()
    spec = InterviewSpec(role="SRE")
    assert begun(session, spec=spec, begin=True).title == "new"
    assert session.rest.created == [spec]


def test_begins_with_the_last_interview() -> None:
    """The interview last worked on is gone on with."""
    session = FakeSession([interview("old", updated_at=NOW - 900), interview("recent")])
    assert begun(session, resume_last=True).title == "recent"


def test_last_worked_on_is_not_completed() -> None:
    """A completed interview is not gone on with, however recent; without others there is none."""
    done = interview("done", status=Status.COMPLETED, updated_at=NOW)
    assert last_worked_on([done, interview("open")]) == "open"
    assert last_worked_on([done]) == ""


def test_errors_are_the_message_at_the_end() -> None:
    """The sentence of the error that ended the app is printed after the screen has gone."""
    app = PrepApp(lambda _: _never(), microphone=Ears(), monotonic=Clock())
    app.give_up(PrepError("Say \x1b]0;this\x07."))
    assert [str(line) for line in app._exit_renderables] == ["Say \ufffd]0;this\ufffd."]


async def _never() -> FakeSession:
    raise AssertionError("nothing connects here")
