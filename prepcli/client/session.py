"""A session: one person's connection to one server.

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
    """What the command line asks for."""

    server: str | None = None
    """The server's URL; None for one that prep starts on this machine and stops at the end."""
    spec: InterviewSpec = InterviewSpec()
    """The interview to begin, or what the form for a new one says at first."""
    start_new: bool = False
    """Begin an interview from `spec` at once: something about it was said on the command line."""
    interview_id: str | None = None
    """The interview to go on with."""
    resume_last: bool = False
    """Go on with the interview that was changed last among those that are not completed."""


class ServerProcess(Protocol):
    """A server that lives as long as the session."""

    def require_running(self) -> None:
        """Raises PrivateServerFailed when the server has ended."""

    async def stop(self) -> None: ...


class Session:
    """One server, one person. Close it at the end."""

    def __init__(self, rest: RestClient, process: ServerProcess | None = None) -> None:
        self.rest = rest
        self._process = process

    def room(self, party: str, name: str, *, on_frame: Callable[[str], None] | None = None) -> Room:
        """A room to enter: `interview` and its id, or `user-interviews` and `me`.

        `on_frame` is given every text frame of the server as it came.
        """
        base = self.rest.url.replace("http", "ws", 1)
        path = f"/parties/{quote(party, safe='')}/{quote(name, safe='')}"

        async def address(renew: bool) -> str:
            if self._process is not None:
                self._process.require_running()  # if it has ended, retrying is pointless
            # Rooms have a backoff of their own: one attempt, so that it is in charge.
            token = await self.rest.get_room_token(renew=renew, attempts=1)
            return f"{base}{path}?token={quote(token, safe='')}"

        return Room(address, on_frame=on_frame)

    async def close(self) -> None:
        """Hang up, and stop a private server."""
        await self.rest.close()
        if self._process is not None:
            await self._process.stop()
