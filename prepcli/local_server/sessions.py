"""Opening of sessions, with the server named on the command line or with a local server."""

from collections.abc import Callable

from prepcli.client.rest import RestClient
from prepcli.client.session import Session, SessionOptions
from prepcli.config import normalise_url
from prepcli.credentials import load_access_key
from prepcli.errors import NotAuthorised
from prepcli.local_server.server import LocalServer

__all__ = ["open_session"]


async def open_session(
    options: SessionOptions,
    on_progress: Callable[[str], None],
    *,
    wait_for_models: bool = True,
) -> Session:
    """Open a session with the server named in `options`, or with a new local server if none is
    named.

    A local server's models are loaded first, unless `wait_for_models` is False. `on_progress`
    receives a short line for each step. Raises PrepError.
    """
    if options.server is not None:
        url = normalise_url(options.server)
        return Session(RestClient(url, await _access_key_for(url)))
    server = LocalServer()
    await server.start(on_progress)
    session = Session(RestClient(server.url, server.access_key), server)
    try:
        if wait_for_models:
            await server.wait_for_models(session.rest, on_progress)
    except BaseException:
        await session.close()
        raise
    return session


async def _access_key_for(url: str) -> str:
    try:
        return load_access_key(url)
    except NotAuthorised:
        # Report an unreachable server first: logging in would fail as well.
        async with RestClient(url, "no-key") as rest:
            await rest.get_health()
        raise
