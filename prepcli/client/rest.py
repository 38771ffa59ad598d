"""The server's REST API, as one person uses it."""

import asyncio
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

from prepcli.client.handshake import is_loopback
from prepcli.errors import (
    InferenceFailed,
    NotAuthorised,
    NotFound,
    PrepError,
    RateLimited,
    RequestRefused,
    ServerUnreachable,
)
from prepserver.wire.codec import encode
from prepserver.wire.protocol import (
    ChangeInterview,
    CreateInterview,
    Error,
    Interview,
    InterviewSpec,
    Message,
    Quota,
)
from prepserver.wire.rest import (
    ErrorBody,
    Health,
    InterviewList,
    MessageList,
    RoomToken,
    SpokenAnswer,
)

__all__ = ["RestClient", "error_from_response", "format_local_time"]

TIMEOUT = httpx.Timeout(15.0, connect=4.0)
"""Seconds."""

TOKEN_MARGIN = 60.0
"""Seconds before it expires that a token is no longer handed out: the handshake takes time too."""

ATTEMPTS = 4
"""Of a call that may be repeated, within ten seconds."""

_RETRYABLE_STATUSES = frozenset({502, 503, 504})
_IDEMPOTENT = frozenset({"GET", "DELETE", "PATCH", "PUT"})

_T = TypeVar("_T")


class _RetryableStatus(Exception):
    """An answer that another attempt may turn into a better one."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response


class RestClient:
    """One server and one access key. Calls raise PrepError and nothing else.

    Calls that may be repeated are tried up to four times when the server does not answer.
    """

    def __init__(
        self,
        url: str,
        access_key: str,
        *,
        now: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`transport` replaces the network."""
        self.url = url.rstrip("/")
        self._now = now
        self._token: RoomToken | None = None
        self._fetching = asyncio.Lock()
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {access_key}"},
            timeout=TIMEOUT,
            transport=transport,
            trust_env=not is_loopback(self.url),
        )

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
        """A token for the rooms, good for some minutes more; `renew` drops the one at hand."""
        async with self._fetching:
            token = self._token
            if renew or token is None or token.expires_at - TOKEN_MARGIN <= self._now():
                token = await self._call(RoomToken, "GET", "/auth/token", attempts=attempts)
                self._token = token
            return token.token

    async def create_interview(self, spec: InterviewSpec) -> Interview:
        """Begin an interview. Its id is made here, so a repeated request makes one interview."""
        body = CreateInterview(id=uuid.uuid4().hex, **msgspec.structs.asdict(spec))
        return await self._call(Interview, "POST", "/api/interviews", body, attempts=ATTEMPTS)

    async def get_interview(self, interview_id: str) -> Interview:
        return await self._call(Interview, "GET", _path(interview_id))

    async def rename(self, interview_id: str, title: str) -> Interview:
        body = ChangeInterview(title=title)
        return await self._call(Interview, "PATCH", _path(interview_id), body)

    async def delete_interview(self, interview_id: str) -> None:
        """What is gone already is deleted: a repeated request may meet its own success."""
        try:
            await self._send("DELETE", _path(interview_id), None, ATTEMPTS)
        except NotFound:
            return

    async def get_messages(self, interview_id: str) -> list[Message]:
        """All that was said, in order."""
        said = (await self._call(MessageList, "GET", f"{_path(interview_id)}/messages")).messages
        return sorted(said, key=lambda message: message.position)

    async def get_spoken_answer(self, interview_id: str, message_id: str) -> SpokenAnswer:
        """How a spoken answer was heard. Raises NotFound for one that was typed."""
        path = f"{_path(interview_id)}/messages/{quote(message_id, safe='')}/speech"
        return await self._call(SpokenAnswer, "GET", path)

    async def list_interviews(self) -> list[Interview]:
        """The user's interviews, as the server orders them."""
        return (await self._call(InterviewList, "GET", "/api/interviews")).interviews

    async def ratelimit(self) -> Quota:
        return await self._call(Quota, "GET", "/api/ratelimit")

    async def get_health(self) -> Health:
        """How ready the server is; one attempt, and `starting` is an answer too."""
        try:
            response = await self._http.get("/health/ready")
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        if response.status_code not in (200, 503):
            raise error_from_response(response, self.url)
        return self._decode(Health, response)

    async def _call(
        self,
        kind: type[_T],
        method: str,
        path: str,
        body: msgspec.Struct | None = None,
        *,
        attempts: int | None = None,
    ) -> _T:
        if attempts is None:
            attempts = ATTEMPTS if method in _IDEMPOTENT else 1
        return self._decode(kind, await self._send(method, path, body, attempts))

    async def _send(
        self, method: str, path: str, body: msgspec.Struct | None, attempts: int
    ) -> httpx.Response:
        content = None if body is None else encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        tries = stamina.retry_context(
            on=(httpx.TransportError, _RetryableStatus),
            attempts=attempts,
            timeout=10.0,
            wait_initial=0.2,
            wait_max=2.0,
        )
        try:
            async for attempt in tries:
                with attempt:
                    response = await self._http.request(
                        method, path, content=content, headers=headers
                    )
                    if response.status_code in _RETRYABLE_STATUSES:
                        raise _RetryableStatus(response)
        except _RetryableStatus as error:
            raise error_from_response(error.response, self.url) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self.url, error) from None
        if not response.is_success:
            raise error_from_response(response, self.url)
        return response

    def _decode(self, kind: type[_T], response: httpx.Response) -> _T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError:
            raise _not_a_prep_server(self.url) from None


def _path(interview_id: str) -> str:
    return f"/api/interviews/{quote(interview_id, safe='')}"


def error_from_response(response: httpx.Response, url: str) -> PrepError:
    """The client's error for an answer that is none of the wanted ones."""
    try:
        error = msgspec.json.decode(response.content, type=ErrorBody).error
    except msgspec.DecodeError:
        if response.status_code == 401:
            return _not_authorised(url)
        if response.status_code >= 500:
            return ServerUnreachable(
                f"The server at {url} is in trouble (it answered {response.status_code}). "
                "Try again later."
            )
        return _not_a_prep_server(url)
    match response.status_code:
        case 401:
            return _not_authorised(url)
        case 403 | 404:
            return NotFound(error.message)
        case 429:
            return rate_limited_error(error)
        case 503 if error.code.startswith("inference"):
            return InferenceFailed(error.message)
        case status if status >= 500:
            return ServerUnreachable(f"The server at {url} is in trouble: {error.message}")
        case _:
            return RequestRefused(error.message, code=error.code)


def rate_limited_error(error: Error) -> RateLimited:
    """With the reset time in the person's own time zone."""
    reset: Any = error.details.get("reset")
    if not isinstance(reset, int | float):
        return RateLimited(error.message)
    sentence = f"The allowance of model requests is used up until {format_local_time(reset)}."
    return RateLimited(sentence, reset=float(reset))


def format_local_time(time: float) -> str:
    """A moment, in seconds since the Unix epoch, in local time and to the minute."""
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _unreachable(url: str, error: Exception) -> ServerUnreachable:
    reason = str(error) or type(error).__name__
    return ServerUnreachable(
        f"The server at {url} cannot be reached ({reason}). "
        "Check the address and whether the server runs."
    )


def _not_authorised(url: str) -> NotAuthorised:
    return NotAuthorised(
        f"The server at {url} does not accept your access key. Log in: prep login {url}"
    )


def _not_a_prep_server(url: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"What answers at {url} is not a prep server of a version that this client knows. "
        "Check the address."
    )
