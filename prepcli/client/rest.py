"""Client of the server's REST API."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import stamina
import stamina.instrumentation

from prepcli.errors import (
    InferenceFailed,
    NotAuthorised,
    NotFound,
    PrepError,
    RateLimited,
    RequestRefused,
    ServerUnreachable,
)
from prepserver.outbound import Proxy, RouteError, describe_certificate_problem, find_route
from prepserver.wire.agenda import Agenda, EditAgenda
from prepserver.wire.codec import encode
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import CreateInterview, Error, Interview, InterviewSpec, Message
from prepserver.wire.rest import (
    ErrorBody,
    Health,
    InterviewList,
    MessageList,
    RoomToken,
    SpokenAnswer,
)

__all__ = [
    "ALLOWANCE_CODES",
    "RestClient",
    "error_from_response",
    "format_local_time",
    "rate_limited_error",
]

ALLOWANCE_CODES = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.BUDGET_SPENT})
"""Codes of errors that last until the user's allowance or budget is renewed."""

MODEL_CODES = frozenset(
    {
        ErrorCode.INFERENCE,
        ErrorCode.OVERLOADED,
        ErrorCode.MODEL_NOT_LOADED,
        ErrorCode.FIRST_TOKEN_TIMEOUT,
        ErrorCode.CONTEXT_OVERFLOW,
        ErrorCode.REQUEST_TOO_LONG,
        ErrorCode.DECODE_FAILED,
        ErrorCode.WORKER_DIED,
        ErrorCode.WORKER_CLOSED,
        ErrorCode.NO_REPLY,
        ErrorCode.TRANSCRIPTION_FAILED,
    }
)
"""Codes of errors caused by a model while the server itself works."""

TIMEOUT = httpx.Timeout(15.0, connect=4.0)
"""Timeouts of a request in seconds."""

REQUEST_LIMIT = 20.0
"""Maximum number of seconds of one attempt at a request."""

TOKEN_MARGIN = 60.0
"""Remaining lifetime in seconds at which a token is renewed, so that tokens outlast the
handshake."""

ATTEMPTS = 4
"""Maximum number of attempts at a repeatable request; after ten seconds no further attempt is
made."""

_RETRYABLE_STATUSES = frozenset({502, 503, 504})
_IDEMPOTENT = frozenset({"GET", "DELETE", "PATCH", "PUT"})

_T = TypeVar("_T")


# Log messages about retries would appear in the middle of a screen or of JSON output.
stamina.instrumentation.set_on_retry_hooks([])


class _RetryableStatus(Exception):
    """The status of the response allows another attempt."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response


class RestClient:
    """REST client for one server and one access key.

    Methods raise PrepError and nothing else. Except in `get_health`, a repeatable request is by
    default attempted up to four times while the server does not respond or responds with status
    502, 503 or 504.
    """

    def __init__(
        self,
        url: str,
        access_key: str,
        *,
        now: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`now` and `transport` replace the clock and the network in tests.

        Raises ServerUnreachable if the environment's proxies or certificates cannot be used.
        """
        self.url = url.rstrip("/")
        self._now = now
        self._token: RoomToken | None = None
        self._token_lock = asyncio.Lock()
        self._proxy: Proxy | None = None
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {access_key}"},
            timeout=TIMEOUT,
            transport=transport or self._make_transport(),
            trust_env=False,
        )

    def _make_transport(self) -> httpx.AsyncHTTPTransport:
        try:
            route = find_route(self.url)
        except RouteError as error:
            raise ServerUnreachable(str(error)) from None
        self._proxy = route.proxy
        return route.make_transport()

    def use_server(self, url: str, access_key: str) -> None:
        """Send all further requests, and further attempts at current ones, to another server."""
        self.url = url.rstrip("/")
        self._http.base_url = self.url
        self._http.headers["Authorization"] = f"Bearer {access_key}"
        self._token = None

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
        await self._http.aclose()

    async def get_room_token(self, *, renew: bool = False, attempts: int = ATTEMPTS) -> str:
        """Return a token for room addresses that is valid for at least a minute.

        Tokens are cached. With `renew`, a new token is requested even if the cached token has not
        expired.
        """
        async with self._token_lock:
            token = self._token
            if renew or token is None or token.expires_at - TOKEN_MARGIN <= self._now():
                token = await self._request(RoomToken, "GET", "/auth/token", attempts=attempts)
                self._token = token
            return token.token

    async def create_interview(self, spec: InterviewSpec) -> Interview:
        """Create an interview with an id chosen by the client, so that a repeated request creates
        only one interview."""
        body = CreateInterview(id=uuid.uuid4().hex, **msgspec.structs.asdict(spec))
        return await self._request(Interview, "POST", "/api/interviews", body, attempts=ATTEMPTS)

    async def get_interview(self, interview_id: str) -> Interview:
        return await self._request(Interview, "GET", _interview_path(interview_id))

    async def delete_interview(self, interview_id: str) -> None:
        """Delete an interview. A missing interview counts as deleted, since an earlier attempt may
        have deleted it."""
        try:
            await self._send("DELETE", _interview_path(interview_id), None, ATTEMPTS)
        except NotFound:
            return

    async def get_messages(self, interview_id: str) -> list[Message]:
        """Return the messages of an interview in order of position."""
        path = f"{_interview_path(interview_id)}/messages"
        messages = (await self._request(MessageList, "GET", path)).messages
        return sorted(messages, key=lambda message: message.position)

    async def get_agenda(self, interview_id: str) -> Agenda:
        """Return the agenda, which has no topics before it is planned. Raises RequestRefused if the
        agenda is hidden."""
        return await self._request(Agenda, "GET", f"{_interview_path(interview_id)}/agenda")

    async def edit_agenda(self, interview_id: str, edit: EditAgenda) -> Agenda:
        """Replace the topics that are still planned, and return the agenda. Raises RequestRefused
        if the edit is invalid or the agenda is hidden."""
        return await self._request(Agenda, "PUT", f"{_interview_path(interview_id)}/agenda", edit)

    async def get_spoken_answer(self, interview_id: str, message_id: str) -> SpokenAnswer:
        """Return the transcription of a spoken answer. Raises NotFound if no transcription is
        stored."""
        path = f"{_interview_path(interview_id)}/messages/{quote(message_id, safe='')}/speech"
        return await self._request(SpokenAnswer, "GET", path)

    async def list_interviews(self) -> list[Interview]:
        """Return the user's interviews, newest first."""
        return (await self._request(InterviewList, "GET", "/api/interviews")).interviews

    async def get_health(self) -> Health:
        """Return the server's readiness after one attempt. A server that responds but is not ready
        raises no error."""
        try:
            response = await self._send_once("GET", "/health/ready")
        except httpx.HTTPError as error:
            raise _unreachable(self.url, self._proxy, error) from None
        if response.status_code not in (200, 503):
            raise error_from_response(response, self.url)
        return self._decode(Health, response)

    async def _request(
        self,
        kind: type[_T],
        method: str,
        path: str,
        body: msgspec.Struct | None = None,
        *,
        attempts: int | None = None,
    ) -> _T:
        """Send a request and decode the response body as `kind`."""
        if attempts is None:
            attempts = ATTEMPTS if method in _IDEMPOTENT else 1
        return self._decode(kind, await self._send(method, path, body, attempts))

    async def _send(
        self, method: str, path: str, body: msgspec.Struct | None, attempts: int
    ) -> httpx.Response:
        content = None if body is None else encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        retries = stamina.retry_context(
            on=_is_temporary,
            attempts=attempts,
            timeout=10.0,
            wait_initial=0.2,
            wait_max=2.0,
        )
        try:
            async for attempt in retries:
                with attempt:
                    response = await self._send_once(method, path, content, headers)
                    if response.status_code in _RETRYABLE_STATUSES:
                        raise _RetryableStatus(response)
        except _RetryableStatus as error:
            raise error_from_response(error.response, self.url) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self.url, self._proxy, error) from None
        if not response.is_success:
            raise error_from_response(response, self.url)
        return response

    async def _send_once(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request once. Raises httpx.HTTPError, also for responses of a proxy."""
        try:
            # httpx has no time limit for the replies of a SOCKS proxy.
            async with asyncio.timeout(REQUEST_LIMIT):
                response = await self._http.request(method, path, content=content, headers=headers)
        except TimeoutError:
            raise httpx.ReadTimeout("no response in time") from None
        if self._proxy is not None and response.status_code == 407:
            raise httpx.ProxyError("it requires a user name and a password")
        return response

    def _decode(self, kind: type[_T], response: httpx.Response) -> _T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError:
            raise _not_a_prep_server(self.url) from None


def _interview_path(interview_id: str) -> str:
    return f"/api/interviews/{quote(interview_id, safe='')}"


def error_from_response(response: httpx.Response, url: str) -> PrepError:
    """Return the PrepError for an unsuccessful response."""
    status = response.status_code
    try:
        error = msgspec.json.decode(response.content, type=ErrorBody).error
    except msgspec.DecodeError:
        if status == 401:
            return _not_authorised(url)
        if status >= 500:
            return ServerUnreachable(
                f"The server at {url} responded with status {status}. Try again later."
            )
        return _not_a_prep_server(url)
    if status == 401:
        return _not_authorised(url)
    if status in (403, 404):
        return NotFound(error.message)
    if status == 429:
        return rate_limited_error(error)
    if status == 503 and error.code in MODEL_CODES:
        return InferenceFailed(error.message)
    if status >= 500:
        return ServerUnreachable(f"The server at {url} responded with an error: {error.message}")
    return RequestRefused(error.message, code=error.code)


def rate_limited_error(error: Error) -> RateLimited:
    """Return the error for a used-up allowance or budget. The message includes the local time of
    the reset if the server has sent it."""
    reset: Any = error.details.get("reset")
    if not isinstance(reset, int | float):
        return RateLimited(error.message)
    subject = "budget" if error.code == ErrorCode.BUDGET_SPENT else "allowance of model requests"
    sentence = f"Your {subject} is used up. Continue after {format_local_time(reset)}."
    return RateLimited(sentence, reset=float(reset))


def format_local_time(time: float) -> str:
    """Format a time, in seconds since the Unix epoch, in the local time zone and to the minute."""
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _is_temporary(error: Exception) -> bool:
    """Return True if another attempt may succeed."""
    if isinstance(error, httpx.ProxyError) or describe_certificate_problem(error):
        return False
    return isinstance(error, httpx.TransportError | _RetryableStatus)


def _unreachable(url: str, proxy: Proxy | None, error: Exception) -> ServerUnreachable:
    if problem := describe_certificate_problem(error):
        return ServerUnreachable(f"The certificate of {url} {problem}")
    if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error):
        return ServerUnreachable(
            f"The server at {url} answers without TLS. Use an address that starts with http://, or "
            "another port."
        )
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if proxy is not None:
        return ServerUnreachable(
            f"Cannot reach the server at {url} through the proxy {proxy.description} ({reason}). "
            "Check the proxy, or add the server to NO_PROXY."
        )
    return ServerUnreachable(
        f"Cannot reach the server at {url} ({reason}). "
        "Check the address, and check that the server is running."
    )


def _not_authorised(url: str) -> NotAuthorised:
    return NotAuthorised(
        f"The server at {url} does not accept your access key. Log in again: prep login {url}"
    )


def _not_a_prep_server(url: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"The server at {url} is not a prep server, or its version is not supported. Check the "
        "address and the version of the server."
    )
