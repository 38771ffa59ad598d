"""HTTP client for an OpenAI-compatible endpoint.

Requests leave this process, and usually this machine. Responses come from an untrusted server, so
their sizes are limited and their contents checked.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import structlog

from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.error_responses import error_from_response, redact_quotes
from prepserver.errors import BadRequest, InferenceError
from prepserver.outbound import Proxy, Route, RouteError, find_route
from prepserver.wire.error_codes import ErrorCode

__all__ = ["EndpointClient"]

CONNECT_TIMEOUT = 10.0
"""Maximum number of seconds for establishing a connection to the endpoint."""
MAX_BODY = 8 * 2**20
"""Maximum size in bytes of a response that is not streamed."""
MAX_ERROR_BODY = 64 * 2**10
"""Number of bytes after which the rest of an error response is not read."""

_KEY = re.compile(r"\b(?:sk|pk|key|bearer)[-_ ][\w.*-]{8,}", re.IGNORECASE)
"""Pattern of keys, also of shortened and foreign ones."""

log = structlog.get_logger(__name__)


class EndpointClient:
    """HTTP client for one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        *,
        read_timeout: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Create a client; `read_timeout` is the maximum number of seconds without data from the
        endpoint.

        Raises BadRequest if the key cannot be sent in a header, or if the environment's proxies or
        certificates cannot be used.
        """
        if not key.isascii() or not key.isprintable() or " " in key:
            raise BadRequest(
                "The API key for the model's endpoint contains a space, a line break or another "
                "character that keys never contain. Set the key again.",
                code=ErrorCode.BAD_SETTING,
            )
        self.endpoint = endpoint
        self._key = key
        # No compression: a small response could expand to a huge one.
        headers = {"Accept-Encoding": "identity"}
        self._proxy: Proxy | None = None
        self._send_seconds = CONNECT_TIMEOUT + 2 * read_timeout
        if transport is None:
            route = _find_route(endpoint.url)
            self._proxy = route.proxy
            transport = route.make_transport()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(read_timeout, connect=CONNECT_TIMEOUT),
            transport=transport,
            trust_env=False,
        )

    async def get(self, path: str) -> bytes:
        """Request `path` and return the whole body of the response. Raises InferenceError."""
        async with self._request("GET", path) as response:
            return await _read_body(response)

    async def post_form(
        self, path: str, fields: Mapping[str, Any], files: Mapping[str, Any]
    ) -> bytes:
        """Send a multipart form and return the whole body of the response. Raises
        InferenceError."""
        async with self._request("POST", path, data=fields, files=files) as response:
            return await _read_body(response)

    @asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncGenerator[AsyncGenerator[bytes, None]]:
        """Send JSON and yield the response as a stream of chunks.

        Raises InferenceError if the request fails, or if reading a chunk fails within the `with`
        block.
        """
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        async with (
            self._request("POST", path, content=body, headers=headers) as response,
            aclosing(_chunks(response)) as chunks,
        ):
            yield chunks

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, **content: Any
    ) -> AsyncGenerator[httpx.Response]:
        url = f"{self.endpoint.url}{path}"
        try:
            async with aclosing(await self._send(method, url, **content)) as response:
                if response.status_code != httpx.codes.OK:
                    raise await self._response_error(path, content.get("content", b""), response)
                yield response
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
        ) as error:
            raise self._network_error(
                error, ErrorCode.ENDPOINT_UNREACHABLE, "cannot be reached"
            ) from error
        except httpx.TimeoutException as error:
            raise self._network_error(
                error, ErrorCode.ENDPOINT_TIMEOUT, "did not respond in time"
            ) from error
        except httpx.HTTPError as error:
            raise self._network_error(
                error,
                ErrorCode.ENDPOINT_CUT,
                "closed the connection before its response was complete",
            ) from error

    async def _send(self, method: str, url: str, **content: Any) -> httpx.Response:
        """Send a request and return the response, whose body is not read yet. Raises
        httpx.HTTPError, also for failures of a proxy."""
        request = self._client.build_request(method, url, **content)
        if self._proxy is None:
            return await self._client.send(request, stream=True)
        try:
            # httpx has no time limit for the replies of a SOCKS proxy.
            async with asyncio.timeout(self._send_seconds):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise httpx.ConnectTimeout("no response in time") from None
        if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            await response.aclose()
            raise httpx.ProxyError("it requires a user name and a password")
        return response

    async def _response_error(
        self, path: str, sent: bytes, response: httpx.Response
    ) -> InferenceError:
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ERROR_BODY:
                    break
        except httpx.HTTPError:
            log.debug("endpoint.error_body_cut")
        error, text = error_from_response(response.status_code, bytes(body), response.headers)
        # Endpoints quote the request, and some the key.
        text = text.replace(self._key, "[key]") if self._key else text
        text = _KEY.sub("[key]", text)
        log.warning(
            "endpoint.request_failed",
            endpoint=self.endpoint.origin,
            path=path,
            status=response.status_code,
            code=error.code,
            reason=redact_quotes(text, sent.decode()),
        )
        log.debug("endpoint.error_text", endpoint=self.endpoint.origin, text=text)
        return error

    def _network_error(
        self, error: httpx.HTTPError, code: ErrorCode, problem: str
    ) -> InferenceError:
        log.warning(
            "endpoint.network_error",
            endpoint=self.endpoint.origin,
            error=type(error).__name__,
            text=str(error),
            proxy=self._proxy and self._proxy.description,
        )
        if self._proxy is None:
            return InferenceError(f"The model's endpoint {problem}. Try again.", code=code)
        return InferenceError(
            f"The model's endpoint, behind the proxy of {self._proxy.variable}, {problem}. Check "
            "the proxy, add the endpoint to NO_PROXY, or try again.",
            code=code,
        )

    async def close(self) -> None:
        await self._client.aclose()


def _find_route(url: str) -> Route:
    try:
        return find_route(url)
    except RouteError as error:
        raise BadRequest(str(error), code=ErrorCode.BAD_SETTING) from None


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in response.aiter_bytes():
        yield chunk


async def _read_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            raise InferenceError(
                f"The model's endpoint sent a response of more than {MAX_BODY >> 20} MiB. Check "
                "its address.",
                code=ErrorCode.BAD_REPLY,
                retryable=False,
            )
    return bytes(body)
