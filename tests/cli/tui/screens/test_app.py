"""Start, first screen and exit of the app."""

import asyncio
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from prepcli.errors import LocalServerFailed, PrepError
from prepcli.local_server.sessions import ConfirmFetch
from prepcli.tui.app import PrepApp, last_unfinished
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.starting import StartingScreen
from prepserver.wire.protocol import InterviewSpec, Status
from tests.cli.tui.screens.support import (
    NOW,
    Clock,
    FakeMicrophone,
    FakeSession,
    interview,
    settle,
    shown,
)


@pytest.fixture(autouse=True)
def no_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the theme and the background colour of the developer's terminal from the app."""
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)


def test_start_up_is_shown() -> None:
    """While the server starts, the screen shows the current stage; then the list of interviews
    opens."""
    ready = asyncio.Event()

    async def connect(on_progress: Callable[[str], None], _: ConfirmFetch) -> FakeSession:
        on_progress("Loading the language model…")
        await ready.wait()
        return FakeSession()

    async def run() -> None:
        app = PrepApp(connect, microphone=FakeMicrophone(), monotonic=Clock())
        async with app.run_test() as pilot:
            await settle(pilot)
            assert isinstance(app.screen, StartingScreen)
            assert "Loading the language model…" in shown(app)
            ready.set()
            await settle(pilot)
            assert isinstance(app.screen, LobbyScreen)

    asyncio.run(run())


def test_failed_start_ends_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """If the local server does not start, the app exits with the exit code of the error."""

    async def connect(*_: object) -> FakeSession:
        raise LocalServerFailed("The server ended at once.")

    async def run() -> PrepApp:
        app = PrepApp(connect, microphone=FakeMicrophone(), monotonic=Clock())
        async with app.run_test() as pilot:
            await settle(pilot)
        return app

    app = asyncio.run(run())
    assert app.return_value == 3
    assert app.return_code == 3


def first_screen(session: FakeSession, **options: object) -> PrepApp:
    """Run the app with `options`, and return the app with its first screen's name as the title."""

    async def connect(*_: object) -> FakeSession:
        return session

    async def run(app: PrepApp) -> None:
        async with app.run_test() as pilot:
            await settle(pilot)
            first.append(screen_name(app))
            await return_to_list(app, pilot)

    first: list[str] = []
    app = PrepApp(
        connect,
        microphone=FakeMicrophone(),
        now=Clock(NOW),
        monotonic=Clock(),
        **options,  # type: ignore[arg-type]
    )
    asyncio.run(run(app))
    app.title = first[0]
    return app


def screen_name(app: PrepApp) -> str:
    """Return the id of the interview on the screen, or `list` for any other screen."""
    screen = app.screen
    return screen.interview_id if isinstance(screen, InterviewScreen) else "list"


async def return_to_list(app: PrepApp, pilot: Pilot[int]) -> None:
    """Press the key that leaves an interview, and check that one press returns to the list."""
    await pilot.press("ctrl+l")
    await settle(pilot)
    assert isinstance(app.screen, LobbyScreen)


def test_starts_with_the_list() -> None:
    """By default, the app starts with the list of interviews."""
    assert first_screen(FakeSession([interview()])).title == "list"


def test_starts_with_a_new_interview() -> None:
    """An interview described on the command line is created and opened."""
    session = FakeSession()
    spec = InterviewSpec(role="SRE")
    assert first_screen(session, spec=spec, begin=True).title == "new"
    assert session.rest.created == [spec]


def test_starts_with_the_last_interview() -> None:
    """With `resume_last`, the app opens the most recently updated active interview."""
    session = FakeSession([interview("old", updated_at=NOW - 900), interview("recent")])
    assert first_screen(session, resume_last=True).title == "recent"


def test_last_unfinished_is_not_completed() -> None:
    """A completed interview is not resumed, however recent it is."""
    done = interview("done", status=Status.COMPLETED, updated_at=NOW)
    assert last_unfinished([done, interview("open")]) == "open"
    assert last_unfinished([done]) == ""


def test_the_error_is_printed_at_the_end() -> None:
    """The message of the error that ends the app is printed at exit, without control characters."""
    app = PrepApp(lambda *_: _never(), microphone=FakeMicrophone(), monotonic=Clock())
    app.exit_with(PrepError("Say \x1b]0;this\x07."))
    assert [str(line) for line in app._exit_renderables] == ["Say \ufffd]0;this\ufffd."]


async def _never() -> FakeSession:
    raise AssertionError("nothing connects here")
