"""Terminal app on its local server: the server is killed, the terminal is closed, two are open."""

import asyncio
import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot

from prepcli.client.options import SessionOptions
from prepcli.client.session import Session
from prepcli.drafts import DraftStore
from prepcli.local_server.sessions import ConfirmFetch, open_session
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.widgets.answer import AnswerBox
from prepcli.tui.widgets.connection import ConnectionBanner
from prepserver.wire.protocol import InterviewSpec, MessageKind
from tests.cli.tui.screens.support import FakeMicrophone, shown
from tests.e2e.test_screens import messages, until

pytestmark = pytest.mark.e2e

TIMEOUT_SECONDS = 60.0


@pytest.fixture(autouse=True)
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make local servers use scripted models, and return prep's data directory."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", "--model scripted --stt-model scripted")
    return Path(os.environ["PREP_DATA_DIR"])


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "private" / "server.lock").read_text())


def drive(play: Callable[[PrepApp, Pilot[int]], Awaitable[None]], **options: object) -> None:
    """Run the app on the local server while `play` presses keys."""

    async def run() -> None:
        app = new_app(**options)
        try:
            async with app.run_test(size=(100, 30)) as pilot:
                await play(app, pilot)
        finally:
            if app.session is not None:
                await app.session.close()

    asyncio.run(run())


def new_app(**options: object) -> PrepApp:
    async def connect(on_progress: Callable[[str], None], confirm_fetch: ConfirmFetch) -> Session:
        return await open_session(SessionOptions(), on_progress, confirm_fetch)

    return PrepApp(connect, microphone=FakeMicrophone(), **options)  # type: ignore[arg-type]


async def first_question(app: PrepApp, pilot: Pilot[int]) -> InterviewScreen:
    """Wait for the first question of the interview that the app has started."""
    await until(pilot, lambda: isinstance(app.screen, InterviewScreen))
    screen = app.screen
    assert isinstance(screen, InterviewScreen)
    await until(pilot, lambda: "Your turn" in shown(app))
    return screen


def has_questions(screen: InterviewScreen, count: int) -> Callable[[], bool]:
    return lambda: len(messages(screen, MessageKind.QUESTION)) == count


NEW = {"spec": InterviewSpec(role="Baker", questions=3), "begin": True}


def test_local_server_is_killed_under_the_screen(data_dir: Path) -> None:
    """The killed server is restarted in place each time: the screen says so, the draft stays, and
    an answer typed meanwhile is answered."""

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = await first_question(app, pilot)
        banner = screen.query_one(ConnectionBanner)
        for round in (1, 2):
            os.kill(server_pid(data_dir), signal.SIGKILL)
            await until(pilot, lambda: banner.display)
            assert "The interviewer stopped. Restarting…" in shown(app)
            assert "Your answer and your draft are safe." in shown(app)
            await pilot.press(*f"answer{round}", "enter", *"draft")
            await until(pilot, lambda: not banner.display)
            await until(pilot, has_questions(screen, round + 1))
            assert screen.query_one(AnswerBox).text == "draft"
            await pilot.press(*["backspace"] * len("draft"))
            await until(pilot, lambda: "Your turn" in shown(app))
        answers = [message.text for message in messages(screen, MessageKind.ANSWER)]
        assert answers == ["answer1", "answer2"]

    drive(play, **NEW)


def test_local_server_cannot_be_restarted(data_dir: Path) -> None:
    """If the restart fails, a dialogue says why; after the cause is gone, Try again continues the
    interview with the draft."""
    database = data_dir / "private" / "users.sqlite"

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = await first_question(app, pilot)
        await pilot.press(*"draft")
        pid = server_pid(data_dir)
        database.rename(database.with_suffix(".kept"))
        database.mkdir()
        os.kill(pid, signal.SIGKILL)
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await until(pilot, lambda: "Try again" in shown(app))
        assert "users.sqlite" in shown(app)
        database.rmdir()
        database.with_suffix(".kept").rename(database)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen)
        await until(pilot, lambda: not screen.query_one(ConnectionBanner).display)
        assert screen.query_one(AnswerBox).text == "draft"
        await pilot.press("enter")
        await until(pilot, lambda: len(messages(screen, MessageKind.QUESTION)) == 2)

    drive(play, **NEW)


def test_two_screens_and_a_list(data_dir: Path) -> None:
    """Two screens and `prep list` use one server, and the first screen may be closed first."""

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = await first_question(app, pilot)
        pid = server_pid(data_dir)
        other = await open_session(SessionOptions(), lambda line: None, refuse)
        interviews = await other.rest.list_interviews()
        assert [each.id for each in interviews] == [screen.interview_id]
        listed = await asyncio.to_thread(prep, "list")
        assert screen.interview_id in listed
        assert app.session is not None
        await app.session.close()
        assert len(await other.rest.list_interviews()) == 1
        assert server_pid(data_dir) == pid
        await other.close()

    async def refuse(_: Sequence[object]) -> bool:
        raise AssertionError("no model is missing")

    drive(play, **NEW)


def prep(*arguments: str) -> str:
    """Run `prep` until it exits and return its standard output."""
    return subprocess.run(
        [sys.executable, "-m", "prepcli", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    ).stdout


class Terminal:
    """`prep` on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self._descriptor, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prepcli", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(inner)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def read_until(self, condition: Callable[[str], bool]) -> None:
        """Read the output until `condition` is true of everything read."""
        output = ""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition(output):
            assert time.monotonic() < deadline, output[-2000:]
            if select.select([self._descriptor], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # the program has ended
                    output += os.read(self._descriptor, 65536).decode("utf-8", "replace")

    def close(self) -> None:
        """Close the terminal, as closing its window does."""
        os.close(self._descriptor)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_terminal_is_closed_while_typing(data_dir: Path, end: signal.Signals) -> None:
    """After `kill -9`, or when the terminal is closed, the unsent text is on the disk and in the
    box at the next start."""
    terminal = Terminal("interview", "--questions", "1")
    try:
        terminal.read_until(lambda output: "Your turn" in output)
        terminal.type("I led a team")
        drafts = data_dir / "drafts"
        if end is signal.SIGKILL:
            # What is half a second old is on the disk.
            terminal.read_until(lambda _: any("team" in each for each in texts(drafts)))
        else:
            terminal.read_until(lambda output: "team" in output)
        terminal.process.send_signal(end)
        terminal.process.wait(TIMEOUT_SECONDS)
    finally:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()
    assert texts(drafts) == ["I led a team"]
    [id] = [line.split()[0] for line in prep("list").splitlines()]

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await first_question(app, pilot)
        assert app.screen.query_one(AnswerBox).text == "I led a team"

    drive(play, interview_id=id)


def texts(drafts: Path) -> list[str]:
    """Return the text of every draft on the disk."""
    store = DraftStore(drafts)
    return [store.load(file.stem).text for file in drafts.glob("*.json")]


def test_prep_without_a_command(data_dir: Path) -> None:
    """`prep` alone opens the screen on a terminal."""
    terminal = Terminal()
    try:
        terminal.read_until(lambda output: "No interviews yet" in output)
        terminal.type("q")
        terminal.read_until(lambda output: terminal.process.poll() is not None)
        assert terminal.process.returncode == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()


def test_unknown_interview_on_a_terminal(data_dir: Path) -> None:
    """`prep interview --id` with an unknown id ends the screen with exit code 2 and says why."""
    terminal = Terminal("interview", "--id", "zzz")
    try:
        terminal.read_until(lambda output: "no interview with this id" in output)
        assert terminal.process.wait(TIMEOUT_SECONDS) == 2
    finally:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()
