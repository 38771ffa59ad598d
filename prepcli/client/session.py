"""A server that somebody is logged in to: their own one far away, or one that prep starts here.

session = await open_session(SessionOptions(server=None), print)
try:
    interview = await session.rest.create(InterviewSpec(role="Backend Engineer"))
    async with session.room("interview", interview.id) as room: …
finally:
    await session.close()
"""

from collections.abc import Callable
from urllib.parse import quote

from msgspec import Struct

from prepcli.client.rest import Rest
from prepcli.client.room import Room
from prepcli.config import normalised
from prepcli.credentials import access_key
from prepcli.errors import NotAuthorised
from prepcli.local_server.private import PrivateServer
from prepserver.wire.protocol import InterviewSpec

__all__ = ["Session", "SessionOptions", "open_session"]


class SessionOptions(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    server: str | None = None
    """The server's URL; None for one that prep starts on this machine and stops at the end."""
    spec: InterviewSpec = InterviewSpec()
    """The interview to begin, or what the form for a new one says at first."""
    begin: bool = False
    """Begin an interview from `spec` at once: something about it was said on the command line."""
    interview_id: str | None = None
    """The interview to go on with."""
    resume_last: bool = False
    """Go on with the interview that was changed last among those that are not completed."""


class Session:
    """One server, one person. Close it at the end."""

    def __init__(self, rest: Rest, private: PrivateServer | None = None) -> None:
        self.rest = rest
        self._private = private

    def room(self, party: str, name: str, *, on_frame: Callable[[str], None] | None = None) -> Room:
        """A room to enter: `interview` and its id, or `user-interviews` and `me`.

        `on_frame` is given every text frame of the server as it came.
        """
        base = self.rest.url.replace("http", "ws", 1)
        path = f"/parties/{quote(party, safe='')}/{quote(name, safe='')}"

        async def address(renew: bool) -> str:
            if self._private is not None:
                self._private.require_running()  # if it has ended, waiting is of no use
            # Rooms have a backoff of their own: one attempt, so that it is in charge.
            token = await self.rest.token(renew=renew, attempts=1)
            return f"{base}{path}?token={quote(token, safe='')}"

        return Room(address, on_frame=on_frame)

    async def close(self) -> None:
        """Hang up, and stop a private server."""
        await self.rest.close()
        if self._private is not None:
            await self._private.stop()


async def open_session(
    options: SessionOptions,
    on_progress: Callable[[str], None],
    *,
    wait_for_models: bool = True,
) -> Session:
    """Log in, or start a private server and wait until its models are loaded.

    `on_progress` is told, in short lines, what is being waited for. Raises PrepError.
    """
    if options.server is not None:
        url = normalised(options.server)
        return Session(Rest(url, await _key_for(url)))
    private = PrivateServer()
    await private.start(on_progress)
    session = Session(Rest(private.url, private.access_key), private)
    try:
        if wait_for_models:
            await private.wait_for_models(session.rest, on_progress)
    except BaseException:
        await session.close()
        raise
    return session


async def _key_for(url: str) -> str:
    try:
        return access_key(url)
    except NotAuthorised:
        # That nobody answers there says more than that nobody has logged in there.
        async with Rest(url, "nobody") as stranger:
            await stranger.health()
        raise
