"""Opening of room connections, and classification of handshake responses."""

import logging
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidProxyStatus
from websockets.http11 import Response

from prepcli.errors import NotAuthorised, NotFound, ProxyRefused, ServerUnreachable
from prepserver.outbound import RouteError, find_route
from prepserver.wire.rest import ErrorBody

__all__ = ["open_connection", "raise_if_permanent"]

MAX_SIZE = 8 * 1024 * 1024
"""Maximum size in bytes of a message from the server. The largest is the snapshot of a long
interview."""

_RETRYABLE_STATUSES = frozenset({408, 425, 429})
"""Retryable handshake statuses below 500; all statuses from 500 upwards are retryable."""

# At its debug level websockets logs the request line, which contains the token.
_websockets_log = logging.getLogger(f"{__name__}.websockets")
_websockets_log.setLevel(logging.WARNING)


async def open_connection(url: str, timeout: float) -> ClientConnection:
    """Open a connection to a room within `timeout` seconds.

    Raises the exceptions of websockets' `connect`, ProxyRefused if a proxy forwards no connections
    to rooms, and ServerUnreachable if the environment's proxies or certificates cannot be used.
    """
    try:
        route = find_route(url)
    except RouteError as error:
        raise ServerUnreachable(str(error)) from None
    proxy = route.proxy
    # websockets accepts no context where there is no TLS.
    tls: dict[str, Any] = {"proxy_ssl": route.proxy_tls} if route.proxy_tls else {}
    try:
        return await connect(
            url,
            compression=None,
            open_timeout=timeout,
            close_timeout=2,
            ping_interval=20,
            max_size=MAX_SIZE,
            logger=_websockets_log,
            ssl=route.tls if url.startswith("wss:") else None,
            proxy=None if proxy is None else proxy.url,
            **tls,
        )
    except InvalidProxyStatus as error:
        status = error.response.status_code
        if proxy is None or status >= 500 or status in _RETRYABLE_STATUSES:
            raise
        raise ProxyRefused(
            f"The proxy {proxy.description} refuses connections to rooms (status {status}). Ask "
            "its administrator to permit CONNECT to the server's port, or add the server to "
            "NO_PROXY."
        ) from None


def raise_if_permanent(response: Response, *, entered: bool) -> None:
    """Raise an error if a handshake response means that retrying cannot help.

    `entered` is True if an earlier connection to the room succeeded. In that case only a response
    with the server's own error body counts; any other response is assumed to come from a proxy or a
    captive portal and to be temporary. Raises NotAuthorised, NotFound or ServerUnreachable.
    """
    status = response.status_code
    if entered and not _has_error_body(response):
        return
    if status == 401:
        raise NotAuthorised(
            "The server no longer accepts your access key. Log in again: prep login URL"
        )
    if status in (403, 404):
        raise NotFound(
            "You have no such interview on this server. To list your interviews: prep list"
        )
    if status < 500 and status not in _RETRYABLE_STATUSES:
        raise ServerUnreachable(
            f"There is no prep server at this address: the response has status {status}. "
            "Check the address."
        )


def _has_error_body(response: Response) -> bool:
    try:
        msgspec.json.decode(response.body or b"", type=ErrorBody)
    except msgspec.DecodeError:
        return False
    return True
