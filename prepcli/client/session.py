"""A session: one user's access to one server.

session = await open_session(SessionOptions(server=None), print)
try:
    interview = await session.rest.create_interview(InterviewSpec(role="Backend Engineer"))
    async with session.room("interview", interview.id) as room: …
finally:
    await session.close()
"""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from msgspec import Struct

from prepcli.client.rest import RestClient
from prepcli.client.room import Room
from prepserver.wire.protocol import InterviewSpec

__all__ = ["ServerProcess", "Session", "SessionOptions"]


class SessionOptions(Struct, frozen=True, kw_only=True):
    """Parsed options of `prep interview`."""

    server: str | None = None
    """URL of the server; None for a local server that runs as long as the session."""
    spec: InterviewSpec = InterviewSpec()
    """Specification of the new interview, or the initial content of the form for a new
    interview."""
    start_new: bool = False
    """True to create an interview from `spec` immediately."""
    interview_id: str | None = None
    """Id of the interview to resume."""
    resume_last: bool = False
    """True to resume the most recently updated active interview."""


class ServerProcess(Protocol):
    """A server process that runs as long as the session."""

    def require_running(self) -> None:
        """Raise LocalServerFailed if the server has ended."""

    async def stop(self) -> None: ...


class Session:
    """One user's access to one server. A session must be closed."""

    def __init__(self, rest: RestClient, process: ServerProcess | None = None) -> None:
        """`process` is the local server; closing the session stops the server."""
        self.rest = rest
        self._process = process

    def room(self, party: str, name: str, *, on_frame: Callable[[str], None] | None = None) -> Room:
        """Return the client for a room, which the caller must enter.

        `party` and `name` are `interview` and the interview's id, or `user-interviews` and `me`.
        `on_frame` receives the server's text frames unparsed.
        """
        base = self.rest.url.replace("http", "ws", 1)
        path = f"/parties/{quote(party, safe='')}/{quote(name, safe='')}"

        async def address(renew: bool) -> str:
            if self._process is not None:
                self._process.require_running()  # once it has ended, retrying cannot help
            # One attempt: the room has its own backoff.
            token = await self.rest.get_room_token(renew=renew, attempts=1)
            return f"{base}{path}?token={quote(token, safe='')}"

        return Room(address, on_frame=on_frame)

    async def close(self) -> None:
        """Close the HTTP connections and stop the local server, if there is one."""
        await self.rest.close()
        if self._process is not None:
            await self._process.stop()
