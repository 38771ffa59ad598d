"""Opens a session: with the server that the command line names, or with a private one."""

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
    """Log in, or start a private server and wait until its models are loaded.

    `on_progress` is told, in short lines, what is being waited for. Raises PrepError.
    """
    if options.server is not None:
        url = normalise_url(options.server)
        return Session(RestClient(url, await _key_for(url)))
    private = LocalServer()
    await private.start(on_progress)
    session = Session(RestClient(private.url, private.access_key), private)
    try:
        if wait_for_models:
            await private.wait_for_models(session.rest, on_progress)
    except BaseException:
        await session.close()
        raise
    return session


async def _key_for(url: str) -> str:
    try:
        return load_access_key(url)
    except NotAuthorised:
        # That nobody answers there says more than that nobody has logged in there.
        async with RestClient(url, "nobody") as stranger:
            await stranger.get_health()
        raise
