"""Requests to an OpenAI-compatible endpoint.

What it is sent leaves this process, and mostly this machine; what comes back was written by a
stranger, so everything about it is bounded and checked.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import structlog

from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.refusals import refusal
from prepserver.errors import BadRequest, InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["EndpointClient"]

CONNECT_SECONDS = 10.0
MAX_BODY = 8 * 2**20
"""Bytes of an answer that is not streamed."""
MAX_REFUSAL = 64 * 2**10
"""Bytes of a refusal that are looked at."""

log = structlog.get_logger(__name__)


class EndpointClient:
    """Requests to one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        *,
        silence: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`silence` in seconds: how long the endpoint may send nothing at all.

        Raises BadRequest when the key cannot be sent.
        """
        if not key.isascii() or not key.isprintable() or " " in key:
            raise BadRequest(
                "The API key for the endpoint has characters that no key has: a line break or a "
                "space, perhaps. Set it again.",
                code=ErrorCode.BAD_SETTING,
            )
        self.endpoint = endpoint
        self._key = key
        # Compressed, a small answer may be a huge one.
        headers = {"Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(silence, connect=CONNECT_SECONDS),
            transport=transport,
        )

    async def get(self, path: str) -> bytes:
        """The whole answer. Raises InferenceError."""
        async with self._request("GET", path) as response:
            return await _read(response, MAX_BODY)

    async def post(self, path: str, fields: Mapping[str, Any], files: Mapping[str, Any]) -> bytes:
        """The whole answer to a form. Raises InferenceError."""
        async with self._request("POST", path, data=fields, files=files) as response:
            return await _read(response, MAX_BODY)

    @asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncGenerator[AsyncGenerator[bytes, None]]:
        """The answer to JSON as it comes. Raises InferenceError, also while it is read."""
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
        address = f"{self.endpoint.url}{path}"
        try:
            async with self._client.stream(method, address, **content) as response:
                if response.status_code != httpx.codes.OK:
                    raise await self._refused(path, response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise self._failed(
                error, ErrorCode.ENDPOINT_UNREACHABLE, "cannot be reached"
            ) from error
        except httpx.TimeoutException as error:
            raise self._failed(
                error, ErrorCode.ENDPOINT_TIMEOUT, "has said nothing for too long"
            ) from error
        except httpx.HTTPError as error:
            raise self._failed(error, ErrorCode.ENDPOINT_CUT, "broke off its answer") from error

    async def _refused(self, path: str, response: httpx.Response) -> InferenceError:
        body = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_REFUSAL:
                    break
        except httpx.HTTPError:
            log.debug("endpoint.refusal_cut")
        error, said = refusal(response.status_code, bytes(body), response.headers)
        log.warning(
            "endpoint.refused",
            endpoint=self.endpoint.origin,
            path=path,
            status=response.status_code,
            code=error.code,
        )
        # Endpoints quote what they were sent.
        said = said.replace(self._key, "[key]") if self._key else said
        log.debug("endpoint.said", endpoint=self.endpoint.origin, said=said)
        return error

    def _failed(self, error: httpx.HTTPError, code: ErrorCode, what: str) -> InferenceError:
        log.warning(
            "endpoint.failed",
            endpoint=self.endpoint.origin,
            failure=type(error).__name__,
            said=str(error),
        )
        return InferenceError(f"The model's endpoint {what}. Try again.", code=code)

    async def close(self) -> None:
        await self._client.aclose()


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in response.aiter_bytes():
        yield chunk


async def _read(response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise InferenceError(
                "The model's endpoint gave an answer that is far too long.",
                code=ErrorCode.BAD_REPLY,
                retryable=False,
            )
    return bytes(body)
