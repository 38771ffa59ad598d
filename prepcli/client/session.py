"""A session: one user's access to one server.

session = await open_session(SessionOptions(), print, confirm_fetch)
try:
    interview = await session.rest.create_interview(InterviewSpec(role="Backend Engineer"))
    async with session.room("interview", interview.id) as room: …
finally:
    await session.close()
"""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

from prepcli.client.rest import RestClient
from prepcli.client.room import Room

__all__ = ["ServerProcess", "Session"]


class ServerProcess(Protocol):
    """The local server, which is restarted if it ends."""

    @property
    def url(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    async def ensure_running(self) -> bool:
        """Restart the server if it has ended, and return True if its address has changed. Raises
        LocalServerFailed if the server cannot be restarted."""

    def allow_restart(self) -> None: ...
    async def stop(self) -> None: ...


class Session:
    """One user's access to one server. A session must be closed."""

    def __init__(self, rest: RestClient, process: ServerProcess | None = None) -> None:
        """`process` is the local server; closing the session stops using the server."""
        self.rest = rest
        self._process = process

    @property
    def local(self) -> bool:
        """True if the server is the local server, which is restarted if it ends."""
        return self._process is not None

    def allow_restart(self) -> None:
        """Let the next connection restart the local server although the last restart has failed."""
        if self._process is not None:
            self._process.allow_restart()

    def room(self, party: str, name: str, *, on_frame: Callable[[str], None] | None = None) -> Room:
        """Return the client for a room, which the caller must enter.

        `party` and `name` are `interview` and the interview's id, or `user-interviews` and `me`.
        `on_frame` receives the server's text frames unparsed.
        """
        path = f"/parties/{quote(party, safe='')}/{quote(name, safe='')}"

        async def address(renew: bool) -> str:
            if self._process is not None and await self._process.ensure_running():
                self.rest.use_server(self._process.url, self._process.access_key)
            # One attempt: the room has its own backoff.
            token = await self.rest.get_room_token(renew=renew, attempts=1)
            return f"{self.rest.url.replace('http', 'ws', 1)}{path}?token={quote(token, safe='')}"

        return Room(address, on_frame=on_frame)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the HTTP connections and stop using the local server, if there is one."""
        await self.rest.close()
        if self._process is not None:
            await self._process.stop()
