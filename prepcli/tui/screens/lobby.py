"""The lobby: the live list of the user's interviews."""

import asyncio
import time
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Footer, OptionList, Static

from prepcli import paths
from prepcli.client.notes import language_note
from prepcli.drafts import Draft, DraftStore
from prepcli.errors import PrepError
from prepcli.terminal_text import one_line
from prepcli.tui.keys import DELETE, HELP_SIGN, NEW, QUIT_LETTER
from prepcli.tui.links import SessionLink
from prepcli.tui.messages import ConnectionLost, ConnectionRestored, RoomChanged
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.new_interview import NewInterviewScreen
from prepcli.tui.screens.recorder import MicrophoneFactory
from prepcli.tui.screens.room import RoomScreen
from prepcli.tui.text import Seconds
from prepcli.tui.type_ahead import TypeAheadApp
from prepcli.tui.widgets.connection import ConnectionBanner
from prepcli.tui.widgets.interviews import InterviewList
from prepserver.wire.protocol import InterviewSpec, ModelFetch

REFRESH_SECONDS = 30.0
"""Seconds between updates of relative times such as `3 minutes ago`."""


def fetch_line(fetch: ModelFetch | None) -> str:
    """Return one line about the models that the server fetches, or an empty string."""
    if fetch is None:
        return ""
    name = one_line(fetch.model_set)
    if fetch.error:
        return f"The {name} models could not be fetched. {one_line(fetch.error)}"
    if fetch.done >= fetch.total:
        return f"The {name} models are ready: new interviews use them."
    done, total = fetch.done / 1e6, fetch.total / 1e6
    return f"Fetching the {name} models: {done:,.0f} of {total:,.0f} MB"


class LobbyScreen(RoomScreen):
    """Screen that lists the user's interviews and opens, creates and deletes them."""

    CSS_PATH = "lobby.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        NEW.binding(),
        DELETE.binding(),
        QUIT_LETTER.binding(),
        HELP_SIGN.binding(show=False),
    ]

    def __init__(
        self,
        session: SessionLink,
        *,
        microphone: MicrophoneFactory,
        spec: InterviewSpec | None = None,
        now: Seconds = time.time,
        monotonic: Seconds = time.monotonic,
    ) -> None:
        """`spec` fills in the form for a new interview."""
        super().__init__(session, "user-interviews", "me")
        self._microphone = microphone
        self._drafts = DraftStore(paths.data_dir() / "drafts")
        self._spec = spec
        self._list = InterviewList()
        self._now = now
        self._monotonic = monotonic

    def compose(self) -> ComposeResult:
        yield Static("Your interviews", id="title")
        yield ConnectionBanner(self._monotonic, local=self.session.local)
        yield Static(id="fetch", markup=False)
        yield self._list
        with Vertical(id="empty"):
            yield Static("No interviews yet", id="empty-title")
            yield Static(f"Press {NEW.name} to start one.", id="empty-hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(REFRESH_SECONDS, self._show)
        self.query_one("#empty").display = False
        self.query_one("#fetch").display = False

    def on_room_changed(self, event: RoomChanged) -> None:
        self.state = event.state
        self._show()

    def on_connection_lost(self, event: ConnectionLost) -> None:
        self.query_one(ConnectionBanner).show_offline(event.retry_in)

    def on_connection_restored(self, _: ConnectionRestored) -> None:
        self.query_one(ConnectionBanner).hide()

    def _show(self) -> None:
        if not self.state.known:
            return
        line = fetch_line(self.state.fetch)
        self.query_one("#fetch", Static).update(line)
        self.query_one("#fetch").display = bool(line)
        interviews = self.state.interviews
        self._list.update_interviews(interviews, self._now())
        self._list.display = bool(interviews)
        self.query_one("#empty").display = not interviews
        if interviews and self.focused is None:
            self._list.focus()

    # --- Keys ---------------------------------------------------------------------------------

    @on(OptionList.OptionSelected)
    def _open_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self.open_interview(event.option_id)

    def open_interview(self, interview_id: str) -> None:
        self._list.select(interview_id)
        self.app.push_screen(
            InterviewScreen(
                self.session,
                interview_id,
                microphone=self._microphone,
                drafts=self._drafts,
                monotonic=self._monotonic,
            )
        )

    @work(exclusive=True, group="change")
    async def action_new(self) -> None:
        spec = await self.app.push_screen_wait(NewInterviewScreen(self._spec, drafts=self._drafts))
        if spec is not None:
            await self._create(spec)

    async def _create(self, spec: InterviewSpec) -> None:
        app = self.app
        assert isinstance(app, TypeAheadApp)
        try:
            # What is typed meanwhile is meant for the interview, not for the list.
            with app.hold_keys():
                interview = await self.session.rest.create_interview(spec)
                self.open_interview(interview.id)
                if (note := language_note(spec, interview)) is not None:
                    app.notify(note, severity="warning")
        except PrepError as error:
            self._spec = spec
            self.show_warning(str(error))

    @work(exclusive=True, group="change")
    async def action_delete(self) -> None:
        chosen = self._list.highlighted_interview
        if chosen is None:
            return
        confirmed = await self.app.push_screen_wait(
            ConfirmScreen(
                f"Delete “{one_line(chosen.title)}”?",
                "The whole conversation will be lost.",
                yes="Delete",
                no="Keep",
            )
        )
        if not confirmed:
            return
        try:
            await self.session.rest.delete_interview(chosen.id)
        except PrepError as error:
            self.show_warning(str(error))
        else:
            await asyncio.to_thread(self._drafts.save, chosen.id, Draft())
