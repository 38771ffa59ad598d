"""A screen that shows a room of the server and follows it while it is open."""

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
from prepcli.tui.messages import (
    ConnectionLost,
    ConnectionRestored,
    FailureReported,
    RoomChanged,
    RoomLeft,
)
from prepcli.tui.screens.server import SessionLink
from prepserver.wire.protocol import ClientMessages, Failure, GetAllMessages


class RoomScreen(Screen[None]):
    """Base of the lobby and of an interview.

    One worker folds the room's events into a `RoomState` and posts it; handlers show it.
    """

    def __init__(self, session: SessionLink, party: str, name: str) -> None:
        super().__init__()
        self.session = session
        self.room = session.room(party, name)
        self.state = RoomState()

    def on_mount(self) -> None:
        self.follow_room()

    @work(exclusive=True, group="room")
    async def follow_room(self) -> None:
        """Post what happens in the room until the screen closes."""
        state = self.state
        try:
            async with self.room as room:
                async for event in room:
                    if needs_snapshot(state, event):
                        await room.send(GetAllMessages())
                    if isinstance(event, Failure):
                        self.post_message(FailureReported(event))
                    if isinstance(event, ConnectionChanged):
                        self._report(event, before=state.connection)
                    state = apply(state, event)
                    self.post_message(RoomChanged(state))
        except PrepError as error:
            self.post_message(RoomLeft(error))

    def _report(self, event: ConnectionChanged, before: ConnectionStatus) -> None:
        match event.status:
            case ConnectionStatus.ONLINE:
                self.post_message(ConnectionRestored())
            case ConnectionStatus.OFFLINE:
                self.post_message(ConnectionLost(event.retry_in or 0.0))
            case ConnectionStatus.CONNECTING if before is ConnectionStatus.OFFLINE:
                self.post_message(ConnectionLost(0.0))

    async def send(self, message: ClientMessages) -> bool:
        """Queue a message for the server; whether there was room for it."""
        try:
            await self.room.send(message)
        except PrepError as error:
            self.complain(str(error))
            return False
        return True

    def complain(self, sentence: str) -> None:
        """Show a sentence for some seconds."""
        self.notify(printable(sentence), severity="warning", timeout=8, markup=False)

    async def on_failure_reported(self, event: FailureReported) -> None:
        self.complain(event.failure.message)

    async def sure_to_leave(self, *, prep: bool = False) -> bool:
        """Whether nothing is lost by leaving this screen, or with `prep` the whole application,
        or else the person does not mind. Runs in a worker, for it may ask.
        """
        return True

    def leave(self) -> None:
        """Close this screen, and whatever is open on top of it."""
        while self in self.app.screen_stack and self.app.screen is not self:
            self.app.pop_screen()
        if self.app.screen is self:
            self.dismiss()
