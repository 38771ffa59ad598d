"""A screen that follows one room of the server."""

from textual import work
from textual.screen import Screen

from prepcli.client.state import (
    ConnectionChanged,
    ConnectionStatus,
    RoomState,
    apply,
    needs_snapshot,
)
from prepcli.errors import PrepError
from prepcli.terminal_text import printable
from prepcli.tui.links import SessionLink
from prepcli.tui.messages import (
    ConnectionLost,
    ConnectionRestored,
    FailureReported,
    RoomChanged,
    RoomLeft,
)
from prepserver.wire.client_messages import ClientMessages, GetAllMessages
from prepserver.wire.protocol import Failure


class RoomScreen(Screen[None]):
    """Base class of the lobby and of the interview screen.

    One worker folds the room's events into a `RoomState` and posts each new state. Message handlers
    show the state.
    """

    def __init__(self, session: SessionLink, party: str, name: str) -> None:
        super().__init__()
        self.session = session
        self.room = session.room(party, name)
        self.state = RoomState()
        self._address = (party, name)
        self.room_ended = False
        """True if the room has ended with an error, until it is opened again."""

    def on_mount(self) -> None:
        self.follow_room()

    @work(exclusive=True, group="room")
    async def follow_room(self) -> None:
        """Post the room's events and states until the screen closes or the room ends."""
        state = self.state
        try:
            async with self.room as room:
                async for event in room:
                    if needs_snapshot(state, event):
                        await room.send(GetAllMessages())
                    if isinstance(event, Failure):
                        self.post_message(FailureReported(event))
                    if isinstance(event, ConnectionChanged):
                        self._post_connection_change(event, before=state.connection)
                    state = apply(state, event)
                    self.post_message(RoomChanged(state))
        except PrepError as error:
            self.room_ended = True
            self.post_message(RoomLeft(error))

    async def reopen_room(self) -> None:
        """Enter the room again after it has ended with an error. What was not confirmed is sent
        again by subclasses."""
        if self.room_ended:
            self.room_ended = False
            self.room = self.session.room(*self._address)
            self.follow_room()

    def _post_connection_change(self, event: ConnectionChanged, before: ConnectionStatus) -> None:
        match event.status:
            case ConnectionStatus.ONLINE:
                self.post_message(ConnectionRestored())
            case ConnectionStatus.OFFLINE:
                self.post_message(ConnectionLost(event.retry_in or 0.0))
            case ConnectionStatus.CONNECTING if before is ConnectionStatus.OFFLINE:
                self.post_message(ConnectionLost(0.0))

    async def send_message(self, message: ClientMessages) -> bool:
        """Queue a message for the server and return True. If the message cannot be queued, show a
        warning and return False."""
        try:
            await self.room.send(message)
        except PrepError as error:
            self.show_warning(str(error))
            return False
        return True

    def show_warning(self, sentence: str) -> None:
        """Show a warning for a few seconds."""
        self.notify(printable(sentence), severity="warning", timeout=8, markup=False)

    async def on_failure_reported(self, event: FailureReported) -> None:
        self.show_warning(event.failure.message)

    async def confirm_leaving(self, *, quitting: bool = False) -> bool:
        """Return True if the screen may be closed. If anything would be lost, ask the user first.

        `quitting` means that the whole app is about to exit. Must be called from a worker, because
        the user may take time to reply.
        """
        return True

    def leave(self) -> None:
        """Close this screen and all screens on top of it."""
        while self in self.app.screen_stack and self.app.screen is not self:
            self.app.pop_screen()
        if self.app.screen is self:
            self.dismiss()
