"""Terminal app with a real server, from the empty list to a completed interview."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from prepcli.client.rest import RestClient
from prepcli.client.session import Session
from prepcli.client.state import is_completed, open_question
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.new_interview import NewInterviewScreen
from prepcli.tui.widgets.answer import AnswerBox
from prepcli.tui.widgets.connection import ConnectionBanner
from prepcli.tui.widgets.interviews import InterviewList
from prepserver.wire.protocol import Message, MessageKind, Phase
from tests.cli.tui.screens.support import FakeMicrophone, no_stall_timeout, shown, words
from tests.support.server import Server

__all__ = ["no_stall_timeout"]

pytestmark = pytest.mark.e2e

WAIT_SECONDS = 30.0
"""Maximum number of seconds to wait until the server reacts, even on a busy machine."""


async def until(pilot: Pilot[int], condition: Callable[[], bool]) -> None:
    """Wait until `condition` returns True, for at most `WAIT_SECONDS`."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await pilot.pause(0.02)
    await pilot.pause()


def drive(
    server: Server,
    play: Callable[[PrepApp, Pilot[int]], Awaitable[None]],
    *,
    microphone: FakeMicrophone | None = None,
) -> None:
    """Run the app as a new user of the server while `play` presses keys."""
    key = server.add_user()

    async def run() -> None:
        session = Session(RestClient(server.url, key))

        async def connect(*_: object) -> Session:
            return session

        app = PrepApp(connect, microphone=microphone or FakeMicrophone())
        try:
            async with app.run_test(size=(100, 30)) as pilot:
                await play(app, pilot)
        finally:
            await session.close()

    asyncio.run(run())


async def start_interview(app: PrepApp, pilot: Pilot[int], questions: int) -> InterviewScreen:
    """Start an interview from the empty list, wait for the first question, and return the
    screen."""
    await until(pilot, lambda: "No interviews yet" in shown(app))
    await pilot.press("n")
    await until(pilot, lambda: isinstance(app.screen, NewInterviewScreen))
    app.screen.query_one("#questions", Input).value = str(questions)
    await pilot.press("ctrl+s")
    await until(pilot, lambda: isinstance(app.screen, InterviewScreen))
    screen = app.screen
    assert isinstance(screen, InterviewScreen)
    await until(pilot, lambda: open_question(screen.state) is not None)
    await until(pilot, lambda: screen.state.phase is Phase.IDLE)
    return screen


def messages(screen: InterviewScreen, kind: MessageKind) -> list[Message]:
    return [message for message in screen.state.messages if message.kind is kind]


def test_typed_interview_to_its_end(tmp_path: Path) -> None:
    """An interview that starts from the empty list can be completed with typed answers, and the
    list then shows the interview as completed."""

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = await start_interview(app, pilot, questions=2)
        await pilot.press(*"I moved it behind a queue.", "enter")
        await until(pilot, lambda: len(messages(screen, MessageKind.QUESTION)) == 2)
        await until(pilot, lambda: screen.state.phase is Phase.IDLE)
        first, second = messages(screen, MessageKind.QUESTION)
        assert words(app) == [first.text, "I moved it behind a queue.", second.text]
        await pilot.press(*"I measured it.", "enter")
        await until(pilot, lambda: is_completed(screen.state))
        await until(pilot, lambda: bool(messages(screen, MessageKind.SUMMARY)))
        await until(pilot, lambda: "Interview completed" in shown(app))
        assert "2 of 2 answered" in shown(app)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(app.screen, LobbyScreen))
        await until(pilot, lambda: "completed" in shown(app))

    with Server(tmp_path) as server:
        drive(server, play)


def test_spoken_answer(tmp_path: Path) -> None:
    """A recording is sent to the server, and the transcribed answer appears on the screen."""

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = await start_interview(app, pilot, questions=2)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "Listening…" in shown(app))
        await pilot.press("ctrl+r")
        microphone.add_blocks(second)
        await until(pilot, lambda: len(messages(screen, MessageKind.QUESTION)) == 2)
        [answer] = messages(screen, MessageKind.ANSWER)
        assert answer.text
        assert answer.text in words(app)
        assert "You · spoken" in shown(app)

    second = b"\x00\x20\x00\xe0" * 8000
    microphone = FakeMicrophone(second)
    with Server(tmp_path) as server:
        drive(server, play, microphone=microphone)


def test_screen_survives_a_killed_server(tmp_path: Path) -> None:
    """If the server is killed, the screen reports the lost connection; after the restart, the
    interview continues, and a draft typed in the meantime is kept."""

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = await start_interview(app, pilot, questions=3)
        banner = screen.query_one(ConnectionBanner)
        await pilot.press(*"I moved it.", "enter")
        await until(pilot, lambda: screen.state.phase is Phase.GENERATING)
        server.kill()
        await until(pilot, lambda: banner.display)
        assert "Connection lost" in shown(app)
        await pilot.press(*"draft")
        await asyncio.to_thread(server.start)
        await until(pilot, lambda: not banner.display)
        await until(pilot, lambda: len(messages(screen, MessageKind.QUESTION)) == 2)
        await until(pilot, lambda: screen.state.phase is Phase.IDLE)
        assert [message.text for message in messages(screen, MessageKind.ANSWER)] == ["I moved it."]
        assert screen.query_one(AnswerBox).text == "draft"

    with Server(tmp_path, "--scripted-delay", "0.5") as server:
        drive(server, play)


def test_deleted_interview_leaves_the_list(tmp_path: Path) -> None:
    """After the user confirms the deletion of an interview, the interview disappears from the
    list."""

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await start_interview(app, pilot, questions=2)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(app.screen, LobbyScreen))
        await until(pilot, lambda: app.screen.query_one(InterviewList).option_count == 1)
        await pilot.press("d")
        await until(pilot, lambda: "y  Delete" in shown(app))
        await pilot.press("y")
        await until(pilot, lambda: "No interviews yet" in shown(app))

    with Server(tmp_path) as server:
        drive(server, play)
