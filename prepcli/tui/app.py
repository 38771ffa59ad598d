"""The application: opens a session with a server and shows the screens."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App
from textual.binding import Binding, BindingType

from prepcli.audio.capture import Microphone
from prepcli.client.session import Session, SessionOptions
from prepcli.client.signals import run_until_signal
from prepcli.errors import NotAuthorised, PrepError
from prepcli.local_server.sessions import open_session
from prepcli.terminal_text import printable
from prepcli.tui.keys import APPEARANCE, HELP, QUIT
from prepcli.tui.messages import RoomLeft, SessionOpened, StartupFailed, StartupProgressed
from prepcli.tui.screens.help import HelpScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.recorder import MicrophoneFactory
from prepcli.tui.screens.room import RoomScreen
from prepcli.tui.screens.server import SessionLink
from prepcli.tui.screens.starting import StartingScreen
from prepcli.tui.text import Seconds
from prepcli.tui.themes import DARK, LIGHT, preferred
from prepserver.wire.protocol import Interview, InterviewSpec, Status

Connect = Callable[[Callable[[str], None]], Awaitable[SessionLink]]
"""Opens a session; tells the given function, in sentences, what it waits for."""


class PrepApp(App[int]):
    """Returns the exit code of the command."""

    TITLE = "prep"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        HELP.binding(),
        APPEARANCE.binding(show=False),
        QUIT.binding(show=False),
    ]

    def __init__(
        self,
        connect: Connect,
        *,
        microphone: MicrophoneFactory,
        interview_id: str = "",
        resume_last: bool = False,
        spec: InterviewSpec | None = None,
        begin: bool = False,
        now: Seconds = time.time,
        monotonic: Seconds = time.monotonic,
    ) -> None:
        """Opens the list of interviews, and on it, if asked for, one interview.

        That is the one with `interview_id`, or the one last worked on, or with `begin` a new one
        of the spec. Otherwise the spec is what the form for a new interview says at first.
        """
        super().__init__()
        self._connect = connect
        self._microphone = microphone
        self._interview_id = interview_id
        self._resume_last = resume_last
        self._spec = spec or InterviewSpec()
        self._begin = begin
        self._now = now
        self._monotonic = monotonic
        self.session: SessionLink | None = None
        """Set once it is open; whoever started the app closes it."""

    def on_mount(self) -> None:
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = preferred(os.environ)
        starting = StartingScreen(self._monotonic)
        self.push_screen(starting)
        self._open_session(starting)

    @work(exclusive=True, group="session")
    async def _open_session(self, starting: StartingScreen) -> None:
        def progressed(line: str) -> None:
            starting.post_message(StartupProgressed(line))

        try:
            self.session = session = await self._connect(progressed)
            interview_id = self._interview_id
            if self._resume_last and not interview_id:
                interview_id = last_worked_on(await session.rest.list_interviews())
            elif self._begin:
                progressed("Preparing the interview…")
                interview_id = (await session.rest.create_interview(self._spec)).id
        except PrepError as error:
            self.post_message(StartupFailed(error))
        else:
            self.post_message(SessionOpened(interview_id))

    def on_session_opened(self, event: SessionOpened) -> None:
        if self.session is None:
            return
        lobby = LobbyScreen(
            self.session,
            microphone=self._microphone,
            spec=self._spec,
            now=self._now,
            monotonic=self._monotonic,
        )
        self.switch_screen(lobby)
        if event.interview_id:
            lobby.open_interview(event.interview_id)

    def on_startup_failed(self, event: StartupFailed) -> None:
        self.give_up(event.error)

    def on_room_left(self, event: RoomLeft) -> None:
        """Nothing can be done without being authorised; a lost interview leaves the others."""
        if isinstance(event.error, NotAuthorised):
            self.give_up(event.error)

    def give_up(self, error: PrepError) -> None:
        """Leave with the error's exit code and its sentence."""
        self.exit(error.exit_code, error.exit_code, message=Text(printable(str(error))))

    # --- Keys ---------------------------------------------------------------------------------

    def action_show_help(self) -> None:
        self.push_screen(HelpScreen())

    def action_toggle_appearance(self) -> None:
        self.theme = (LIGHT if self.current_theme.dark else DARK).name

    def get_key_display(self, binding: Binding) -> str:
        """`enter` rather than its sign, which many fonts lack."""
        return "enter" if binding.key == "enter" else super().get_key_display(binding)

    @work(exclusive=True, group="question")
    async def action_quit_prep(self) -> None:
        """Leave, unless an answer would be lost by it and the person wants to stay."""
        for screen in self.screen_stack:
            if isinstance(screen, RoomScreen) and not await screen.sure_to_leave(prep=True):
                return
        self.exit(0)


def last_worked_on(interviews: Sequence[Interview]) -> str:
    """The id of the newest interview that is not completed; empty when there is none."""
    active = [each for each in interviews if each.status is Status.ACTIVE]
    return max(active, key=lambda each: each.updated_at).id if active else ""


def run_app(options: SessionOptions) -> int:
    """Show the screens until the person leaves; the exit code of the command."""
    return run_until_signal(_run(options))


async def _run(options: SessionOptions) -> int:
    async def connect(on_progress: Callable[[str], None]) -> Session:
        return await open_session(options, on_progress)

    app = PrepApp(
        connect,
        microphone=Microphone().record,
        interview_id=options.interview_id or "",
        resume_last=options.resume_last,
        spec=options.spec,
        begin=options.start_new,
    )
    try:
        code = await app.run_async()
    finally:
        # With the terminal given back: a private server may take seconds to stop.
        if app.session is not None:
            await app.session.close()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # Textual takes a cancellation for a wish to leave; whoever cancelled expects this.
        raise asyncio.CancelledError
    return app.return_code or 0 if code is None else code
