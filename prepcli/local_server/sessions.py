"""Opening of sessions, with the server named on the command line or with the local server."""

import os
from collections.abc import Awaitable, Callable, Sequence

from prepcli.client.options import SessionOptions
from prepcli.client.rest import RestClient
from prepcli.client.session import Session
from prepcli.config import normalise_url
from prepcli.credentials import load_access_key
from prepcli.errors import NotAuthorised
from prepcli.local_server.commands import (
    FETCH_VARIABLE,
    MissingModel,
    fetch_models,
    find_missing_models,
)
from prepcli.local_server.server import LocalServer, ModelsMissing

__all__ = ["ConfirmFetch", "connect", "open_session"]

ConfirmFetch = Callable[[Sequence[MissingModel]], Awaitable[bool]]
"""Function that asks the user whether the models may be fetched."""


async def open_session(
    options: SessionOptions, on_progress: Callable[[str], None], confirm_fetch: ConfirmFetch
) -> Session:
    """Open a session with the server named in `options`, or with the local server if none is named.

    The local server's models are loaded first, and missing ones are fetched if `confirm_fetch`
    agrees. `on_progress` receives a short line for each step. Raises PrepError.
    """
    if options.server is not None:
        return Session(await connect(options.server))
    server = LocalServer()
    try:
        await server.start(on_progress)
    except ModelsMissing:
        models = await find_missing_models()
        if not models or not await _may_fetch(models, confirm_fetch):
            raise
        await fetch_models(models, on_progress)
        await server.start(on_progress)
    session = Session(RestClient(server.url, server.access_key), server)
    try:
        await server.wait_for_models(session.rest, on_progress)
    except BaseException:
        await session.close()
        raise
    return session


async def _may_fetch(models: Sequence[MissingModel], confirm_fetch: ConfirmFetch) -> bool:
    answer = os.environ.get(FETCH_VARIABLE, "").strip().lower()
    if answer in ("yes", "no"):
        return answer == "yes"
    return await confirm_fetch(models)


async def connect(server: str) -> RestClient:
    """Return a REST client with the stored access key for the server. Raises PrepError."""
    url = normalise_url(server)
    try:
        return RestClient(url, await load_access_key(url))
    except NotAuthorised:
        # Report an unreachable server first: logging in would fail as well.
        async with RestClient(url, "no-key") as rest:
            await rest.get_health()
        raise
