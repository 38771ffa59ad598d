"""The terminal app, which opens a session with a server and shows the screens."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from prepcli.audio.capture import record_microphone
from prepcli.client.notes import language_note
from prepcli.client.options import SessionOptions
from prepcli.client.session import Session
from prepcli.client.signals import run_until_signal
from prepcli.errors import LocalServerFailed, NotAuthorised, PrepError
from prepcli.local_server.commands import MissingModel
from prepcli.local_server.sessions import ConfirmFetch, open_session
from prepcli.terminal_text import printable
from prepcli.tui.driver import StandardOutputDriver
from prepcli.tui.keys import APPEARANCE, HELP, QUIT
from prepcli.tui.links import SessionLink
from prepcli.tui.messages import RoomLeft, SessionOpened, StartupFailed, StartupProgressed
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.help import HelpScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.recorder import MicrophoneFactory
from prepcli.tui.screens.room import RoomScreen
from prepcli.tui.screens.starting import StartingScreen
from prepcli.tui.text import Seconds
from prepcli.tui.themes import DARK, LIGHT, default_theme
from prepcli.tui.type_ahead import TypeAheadApp
from prepserver.wire.protocol import Interview, InterviewSpec, Status

Connect = Callable[[Callable[[str], None], ConfirmFetch], Awaitable[SessionLink]]
"""Function that opens a session. It calls its first argument with a line about each step, and its
second argument to ask whether missing models may be fetched."""

QUIT_KEYS = " or ".join(QUIT.keys.split(","))


class PrepApp(TypeAheadApp):
    """Terminal app whose return value is the command's exit code."""

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
        """Show the list of interviews and, if requested, one interview on top of the list.

        `interview_id` names that interview, `resume_last` selects the most recently updated
        unfinished interview, and `begin` creates an interview from `spec`. `spec` also fills in the
        form for a new interview.
        """
        super().__init__(driver_class=StandardOutputDriver)
        self._connect = connect
        self._microphone = microphone
        self._interview_id = interview_id
        self._resume_last = resume_last
        self._spec = spec or InterviewSpec()
        self._begin = begin
        self._now = now
        self._monotonic = monotonic
        self._offering_restart = False
        self.session: SessionLink | None = None
        """Session, which the caller of the app closes; None until the session is open."""

    def on_mount(self) -> None:
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = default_theme(os.environ)
        starting = StartingScreen(self._monotonic)
        self.push_screen(starting)
        self._open_session(starting)

    @work(exclusive=True, group="session")
    async def _open_session(self, starting: StartingScreen) -> None:
        def report(line: str) -> None:
            starting.post_message(StartupProgressed(line))

        try:
            self.session = session = await self._connect(report, self._confirm_fetch)
            interview_id = self._interview_id
            if interview_id:
                await session.rest.get_interview(interview_id)
            if self._resume_last and not interview_id:
                interview_id = last_unfinished(await session.rest.list_interviews())
            elif self._begin:
                report("Preparing the interview…")
                interview = await session.rest.create_interview(self._spec)
                interview_id = interview.id
                if (note := language_note(self._spec, interview)) is not None:
                    self.notify(note, severity="warning")
        except PrepError as error:
            self.post_message(StartupFailed(error))
        else:
            self.post_message(SessionOpened(interview_id))

    async def _confirm_fetch(self, models: Sequence[MissingModel]) -> bool:
        size = f"{sum(model.size for model in models) / 1e6:,.0f} MB"
        names = " and ".join(model.name for model in models)
        return await self.push_screen_wait(
            ConfirmScreen(
                f"Download the models, {size}?",
                f"prep needs {names}. They are downloaded once and run on this computer.",
                yes="Download",
                no="Quit",
                enter=True,
            )
        )

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
        self.exit_with(event.error)

    def on_room_left(self, event: RoomLeft) -> None:
        """Exit if the user must log in again, and offer a restart of the local server if it cannot
        be restarted; after any other error, other interviews remain usable."""
        if isinstance(event.error, NotAuthorised):
            self.exit_with(event.error)
        elif isinstance(event.error, LocalServerFailed):
            self._offer_restart(event.error)

    @work(group="restart")
    async def _offer_restart(self, error: LocalServerFailed) -> None:
        if self._offering_restart or self.session is None:
            return
        self._offering_restart = True
        try:
            again = await self.push_screen_wait(
                ConfirmScreen(
                    "The interviewer stopped and could not be restarted",
                    f"Your answer and your draft are safe.\n\n{printable(str(error))}",
                    yes="Try again",
                    no="Quit",
                    enter=True,
                )
            )
        finally:
            self._offering_restart = False
        if not again:
            self.exit_with(error)
            return
        self.session.allow_restart()
        for screen in self.screen_stack:
            if isinstance(screen, RoomScreen):
                await screen.reopen_room()

    def exit_with(self, error: PrepError) -> None:
        """Exit with the error's exit code and message."""
        self.exit(error.exit_code, error.exit_code, message=Text(printable(str(error))))

    # --- Keys ---------------------------------------------------------------------------------

    def action_show_help(self) -> None:
        self.push_screen(HelpScreen())

    def action_help_quit(self) -> None:
        """Say what quits prep, because ctrl+c does not."""
        self.notify(
            f"Press {QUIT_KEYS} to quit. Interviews and drafts are kept.", title="Quit prep?"
        )

    def copy_to_clipboard(self, text: str) -> None:
        """Copy `text` and say so, because who pressed ctrl+c may have meant to quit."""
        super().copy_to_clipboard(text)
        self.notify(f"Press {QUIT_KEYS} to quit.", title="Copied")

    def key_ctrl_c(self) -> None:
        """Handle ctrl+c in a dialogue, which hides the bindings of the app."""
        self.action_help_quit()

    def key_ctrl_q(self) -> None:
        self.action_quit_prep()

    def key_f10(self) -> None:
        self.action_quit_prep()

    def action_toggle_appearance(self) -> None:
        self.theme = (LIGHT if self.current_theme.dark else DARK).name

    def get_key_display(self, binding: Binding) -> str:
        """Return Textual's display name of a key, or `enter` for the enter key, since many fonts
        lack its symbol."""
        return "enter" if binding.key == "enter" else super().get_key_display(binding)

    @work(exclusive=True, group="question")
    async def action_quit_prep(self) -> None:
        """Quit the app. If an unsent answer would be lost, ask the user for confirmation first."""
        for screen in self.screen_stack:
            if isinstance(screen, RoomScreen) and not await screen.confirm_leaving(quitting=True):
                return
        self.exit(0)


def last_unfinished(interviews: Sequence[Interview]) -> str:
    """Return the id of the most recently updated interview that is not completed, or an empty
    string if there is none."""
    unfinished = [each for each in interviews if each.status is not Status.COMPLETED]
    return max(unfinished, key=lambda each: each.updated_at).id if unfinished else ""


def run_app(options: SessionOptions) -> int:
    """Run the app and return the command's exit code."""
    return run_until_signal(_run(options))


async def _run(options: SessionOptions) -> int:
    async def connect(on_progress: Callable[[str], None], confirm_fetch: ConfirmFetch) -> Session:
        return await open_session(options, on_progress, confirm_fetch)

    app = PrepApp(
        connect,
        microphone=record_microphone,
        interview_id=options.interview_id or "",
        resume_last=options.resume_last,
        spec=options.spec,
        begin=options.start_new,
    )
    try:
        code = await app.run_async()
    finally:
        # The terminal is restored by now: a local server may take seconds to stop.
        if app.session is not None:
            await app.session.close()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # Textual turns a cancellation into a normal exit; the canceller expects this error.
        raise asyncio.CancelledError
    return app.return_code or 0 if code is None else code
