import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import stamina

from prepcli.client.rest import RestClient, format_local_time
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
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Interview, InterviewSpec, Message
from tests.cli.client.builders import make_interview, make_message

URL = "http://prep.test"


class FakeServer:
    """Fake server that returns the queued responses and keeps the requests."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses = list(responses)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def json_response(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(body))


def error_response(status: int, code: str, **details: Any) -> httpx.Response:
    error = {"code": code, "message": "A sentence.", "retryable": False, "details": details}
    return httpx.Response(status, content=json.dumps({"error": error}))


def call(
    server: FakeServer,
    work: Callable[[RestClient], Awaitable[Any]],
    now: Callable[[], float] = float,
) -> Any:
    async def run() -> Any:
        transport = httpx.MockTransport(server)
        async with RestClient(URL, "the-key", now=now, transport=transport) as rest:
            return await work(rest)

    # No delay between the attempts.
    with stamina.set_testing(True, attempts=4, cap=True):
        return asyncio.run(run())


def test_access_key_is_sent_as_a_bearer_token() -> None:
    """The access key is sent in the Authorization header and not in the URL."""
    server = FakeServer(json_response({"token": "t", "expires_at": 300.0}))
    assert call(server, lambda rest: rest.get_room_token()) == "t"
    assert server.requests[0].headers["Authorization"] == "Bearer the-key"
    assert "the-key" not in str(server.requests[0].url)


def test_token_is_cached_until_a_minute_before_its_expiry() -> None:
    """A token is reused until one minute before its expiry."""
    times = iter((0.0, 239.0, 240.0))
    server = FakeServer(
        json_response({"token": "one", "expires_at": 300.0}),
        json_response({"token": "two", "expires_at": 600.0}),
    )

    async def work(rest: RestClient) -> list[str]:
        return [await rest.get_room_token() for _ in range(4)]

    # The first call does not read the clock, because there is no token yet.
    assert call(server, work, lambda: next(times)) == ["one", "one", "one", "two"]


def test_renew_replaces_a_cached_token() -> None:
    """With `renew`, a new token is requested although the cached one has not expired."""
    server = FakeServer(
        json_response({"token": "one", "expires_at": 300.0}),
        json_response({"token": "two", "expires_at": 300.0}),
    )

    async def work(rest: RestClient) -> str:
        await rest.get_room_token()
        return await rest.get_room_token(renew=True)

    assert call(server, work) == "two"


def test_concurrent_token_requests_share_one_token() -> None:
    """Two concurrent calls for a token share one request."""
    server = FakeServer(json_response({"token": "one", "expires_at": 300.0}))

    async def work(rest: RestClient) -> list[str]:
        return list(await asyncio.gather(rest.get_room_token(), rest.get_room_token()))

    assert call(server, work) == ["one", "one"]


def test_repeated_creation_has_the_same_id() -> None:
    """After a lost response or status 502, creating an interview is retried under the same id."""
    server = FakeServer(
        httpx.ReadError("cut"),
        httpx.Response(502),
        json_response(json.loads(encode(make_interview("i1"))), 201),
    )
    made: Interview = call(server, lambda rest: rest.create_interview(InterviewSpec(role="Baker")))
    assert made.id == "i1"
    bodies = [json.loads(request.content) for request in server.requests]
    assert {body["id"] for body in bodies} == {bodies[0]["id"]}
    assert len(bodies[0]["id"]) == 32
    assert bodies[0]["role"] == "Baker"


def test_unreachable_server_fails_after_four_attempts() -> None:
    """After four failed attempts, a request raises ServerUnreachable with the host and reason."""
    server = FakeServer(*[httpx.ConnectError("no route") for _ in range(9)])
    with pytest.raises(ServerUnreachable, match=r"prep\.test.*no route"):
        call(server, lambda rest: rest.list_interviews())
    assert len(server.requests) == 4


def test_token_request_of_a_room_is_not_retried() -> None:
    """With `attempts=1`, a token request is not retried, because the room has its own backoff."""
    server = FakeServer(httpx.ConnectError("no"), httpx.ConnectError("no"))
    with pytest.raises(ServerUnreachable):
        call(server, lambda rest: rest.get_room_token(attempts=1))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("response", "error", "exit_code"),
    [
        (error_response(401, ErrorCode.BAD_ACCESS_KEY), NotAuthorised, 4),
        (httpx.Response(401, text="who?"), NotAuthorised, 4),
        (error_response(403, ErrorCode.NOT_AN_ADMINISTRATOR), NotFound, 2),
        (error_response(404, ErrorCode.NOT_FOUND), NotFound, 2),
        (error_response(409, ErrorCode.BEING_REMOVED), RequestRefused, 2),
        (error_response(429, ErrorCode.RATE_LIMITED, reset=0.0), RateLimited, 5),
        (error_response(429, ErrorCode.BUDGET_SPENT, reset=0.0), RateLimited, 5),
        (error_response(500, ErrorCode.INTERNAL), ServerUnreachable, 3),
        (error_response(422, "from_the_future"), RequestRefused, 2),
        (error_response(429, "from_the_future"), RateLimited, 5),
        (error_response(500, "from_the_future"), ServerUnreachable, 3),
        (httpx.Response(500, text="oops"), ServerUnreachable, 3),
        (httpx.Response(200, text="<html>"), ServerUnreachable, 3),
        (httpx.Response(404, text="<html>"), ServerUnreachable, 3),
    ],
)
def test_error_response_has_its_exception_and_exit_code(
    response: httpx.Response, error: type[PrepError], exit_code: int
) -> None:
    """Each error response, and each response that is not JSON, raises the matching exception with
    its exit code."""
    with pytest.raises(error) as raised:
        call(FakeServer(response), lambda rest: rest.get_interview("i1"))
    assert raised.value.exit_code == exit_code


@pytest.mark.parametrize("code", [ErrorCode.INFERENCE, ErrorCode.OVERLOADED])
def test_model_failure_is_an_inference_error(code: ErrorCode) -> None:
    """A 503 response with the error code of a model failure raises InferenceFailed."""
    server = FakeServer(*[error_response(503, code) for _ in range(4)])
    with pytest.raises(InferenceFailed, match="A sentence"):
        call(server, lambda rest: rest.list_interviews())


@pytest.mark.parametrize("code", [ErrorCode.STOPPING, "inference_from_the_future"])
def test_other_503_is_an_unreachable_server(code: str) -> None:
    """A 503 response raises ServerUnreachable unless its error code means a model failure."""
    server = FakeServer(*[error_response(503, code) for _ in range(4)])
    with pytest.raises(ServerUnreachable, match="A sentence"):
        call(server, lambda rest: rest.list_interviews())


def test_unknown_error_code_is_kept() -> None:
    """An error code that the client does not know is kept in the exception."""
    with pytest.raises(RequestRefused) as raised:
        call(FakeServer(error_response(422, "new")), lambda rest: rest.list_interviews())
    assert raised.value.code == "new"


def test_used_up_allowance_has_its_reset_in_local_time() -> None:
    """The error for a used-up allowance gives the reset in local time and as Unix time."""
    with pytest.raises(RateLimited, match=format_local_time(1e9)) as raised:
        call(
            FakeServer(error_response(429, ErrorCode.RATE_LIMITED, reset=1e9)),
            lambda rest: rest.list_interviews(),
        )
    assert raised.value.reset == 1e9


def test_deleting_a_missing_interview_succeeds() -> None:
    """Deleting an interview succeeds if the response is lost and the retry returns status 404."""
    server = FakeServer(httpx.ReadError("cut"), error_response(404, ErrorCode.NOT_FOUND))
    call(server, lambda rest: rest.delete_interview("i1"))
    assert server.calls == ["DELETE /api/interviews/i1"] * 2


def test_interview_id_is_escaped_in_the_path() -> None:
    """An interview's id is escaped to a single path segment, whatever characters it contains."""
    server = FakeServer(error_response(404, ErrorCode.NOT_FOUND))
    with pytest.raises(NotFound):
        call(server, lambda rest: rest.get_interview("../../health/live?x"))
    assert server.requests[0].url.raw_path == b"/api/interviews/..%2F..%2Fhealth%2Flive%3Fx"


def test_messages_are_sorted_by_position() -> None:
    """Messages are returned in order of position, whatever the order in the response."""
    body = {"messages": [json.loads(encode(make_message(1))), json.loads(encode(make_message(0)))]}
    messages: list[Message] = call(
        FakeServer(json_response(body)), lambda rest: rest.get_messages("i1")
    )
    assert [message.position for message in messages] == [0, 1]


@pytest.mark.parametrize("status", [200, 503])
def test_health_of_a_starting_server(status: int) -> None:
    """A health response is returned without a retry, even if it has status 503."""
    body = {"status": "starting", "version": "1", "models": {"llm": "loading"}}
    server = FakeServer(json_response(body, status))
    health = call(server, lambda rest: rest.get_health())
    assert health.models == {"llm": "loading"}
