"""Opening a connection to a room, and what the answer to the handshake means."""

import ipaddress
import logging
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.http11 import Response

from prepcli.errors import NotAuthorised, NotFound, ServerUnreachable
from prepserver.wire.rest import ErrorBody

__all__ = ["is_loopback", "open_connection", "raise_if_permanent"]

MAX_SIZE = 8 * 1024 * 1024
"""Bytes of one message of the server: the snapshot of a long interview."""

_RETRYABLE_STATUSES = frozenset({408, 425, 429})
"""Client errors that a later handshake may not meet; so are all of the server's, 5xx."""

# At its debug level websockets writes the request line, and the token with it.
_websockets_log = logging.getLogger(f"{__name__}.websockets")
_websockets_log.setLevel(logging.WARNING)


async def open_connection(url: str, timeout: float) -> ClientConnection:
    """Connect within so many seconds. Raises what websockets' `connect` raises."""
    return await connect(
        url,
        compression=None,
        open_timeout=timeout,
        close_timeout=2,
        ping_interval=20,
        max_size=MAX_SIZE,
        logger=_websockets_log,
        proxy=None if is_loopback(url) else True,
    )


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, where no proxy has a place."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_if_permanent(response: Response, *, known: bool) -> None:
    """Raise for an answer to the handshake that trying again would not change.

    `known`: the room has been entered before. Then an answer that is not in the server's own words
    is a proxy's, or the network's at a new place, and passes.
    """
    status = response.status_code
    if known and not _is_error_body(response):
        return
    if status == 401:
        raise NotAuthorised(
            "The server does not accept your access key any more. Log in again: prep login URL"
        )
    if status in (403, 404):
        raise NotFound(
            "There is no such interview on this server, or it is not yours. To see yours: prep list"
        )
    if status < 500 and status not in _RETRYABLE_STATUSES:
        raise ServerUnreachable(
            f"What answers at this address is not a prep server: it said {status}. "
            "Check the address."
        )


def _is_error_body(response: Response) -> bool:
    try:
        msgspec.json.decode(response.body or b"", type=ErrorBody)
    except msgspec.DecodeError:
        return False
    return True
