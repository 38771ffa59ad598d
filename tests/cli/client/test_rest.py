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
from prepserver.wire.protocol import Interview, InterviewSpec, Message
from tests.cli.client.things import interview, said

URL = "http://prep.test"


class FakeServer:
    """Answers with what the test queued, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def ok(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(body))


def wrong(status: int, code: str, **details: Any) -> httpx.Response:
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

    # No waiting between the attempts.
    with stamina.set_testing(True, attempts=4, cap=True):
        return asyncio.run(run())


def test_the_access_key_is_sent_as_a_bearer() -> None:
    """Every call carries the key in its header and nowhere else."""
    server = FakeServer(ok({"token": "t", "expires_at": 300.0}))
    assert call(server, lambda rest: rest.get_room_token()) == "t"
    assert server.requests[0].headers["Authorization"] == "Bearer the-key"
    assert "the-key" not in str(server.requests[0].url)


def test_a_token_is_kept_until_a_minute_before_it_expires() -> None:
    """One token serves many rooms, and a stale one is never handed out."""
    times = iter((0.0, 239.0, 240.0))
    server = FakeServer(
        ok({"token": "one", "expires_at": 300.0}), ok({"token": "two", "expires_at": 600.0})
    )

    async def work(rest: RestClient) -> list[str]:
        return [await rest.get_room_token() for _ in range(4)]

    # The first call has no token whose time could be looked at.
    assert call(server, work, lambda: next(times)) == ["one", "one", "one", "two"]


def test_a_refused_token_is_renewed() -> None:
    """A token that the server does not accept is dropped however long it would live."""
    server = FakeServer(
        ok({"token": "one", "expires_at": 300.0}), ok({"token": "two", "expires_at": 300.0})
    )

    async def work(rest: RestClient) -> str:
        await rest.get_room_token()
        return await rest.get_room_token(renew=True)

    assert call(server, work) == "two"


def test_rooms_that_ask_at_the_same_time_share_one_token() -> None:
    """Two rooms that connect together cost one request."""
    server = FakeServer(ok({"token": "one", "expires_at": 300.0}))

    async def work(rest: RestClient) -> list[str]:
        return list(await asyncio.gather(rest.get_room_token(), rest.get_room_token()))

    assert call(server, work) == ["one", "one"]


def test_a_repeated_creation_has_the_same_id() -> None:
    """When the answer is lost the request is repeated, and one interview comes of it."""
    server = FakeServer(
        httpx.ReadError("cut"), httpx.Response(502), ok(json.loads(encode(interview("i1"))), 201)
    )
    made: Interview = call(server, lambda rest: rest.create_interview(InterviewSpec(role="Baker")))
    assert made.id == "i1"
    bodies = [json.loads(request.content) for request in server.requests]
    assert {body["id"] for body in bodies} == {bodies[0]["id"]}
    assert len(bodies[0]["id"]) == 32
    assert bodies[0]["role"] == "Baker"


def test_a_server_that_stays_away_is_given_up_after_four_attempts() -> None:
    """The error names the server and what to check."""
    server = FakeServer(*[httpx.ConnectError("no route") for _ in range(9)])
    with pytest.raises(ServerUnreachable, match=r"prep\.test.*no route"):
        call(server, lambda rest: rest.list_interviews())
    assert len(server.requests) == 4


def test_a_room_asks_for_its_token_once() -> None:
    """A room has its own backoff; two of them would multiply."""
    server = FakeServer(httpx.ConnectError("no"), httpx.ConnectError("no"))
    with pytest.raises(ServerUnreachable):
        call(server, lambda rest: rest.get_room_token(attempts=1))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error", "exit_code"),
    [
        (wrong(401, "unauthorized"), NotAuthorised, 4),
        (httpx.Response(401, text="who?"), NotAuthorised, 4),
        (wrong(403, "forbidden"), NotFound, 2),
        (wrong(404, "not_found"), NotFound, 2),
        (wrong(422, "interview"), RequestRefused, 2),
        (wrong(429, "rate_limited", reset=0.0), RateLimited, 5),
        (wrong(500, "internal"), ServerUnreachable, 3),
        (httpx.Response(500, text="oops"), ServerUnreachable, 3),
        (httpx.Response(200, text="<html>"), ServerUnreachable, 3),
        (httpx.Response(404, text="<html>"), ServerUnreachable, 3),
    ],
)
def test_each_answer_becomes_an_error_with_its_exit_code(
    answer: httpx.Response, error: type[PrepError], exit_code: int
) -> None:
    """What a server, or something that is none, may say has a type and an exit code."""
    with pytest.raises(error) as raised:
        call(FakeServer(answer), lambda rest: rest.get_interview("i1"))
    assert raised.value.exit_code == exit_code


def test_a_model_that_fails_for_good_is_an_inference_error() -> None:
    """A 503 that goes on is reported as what it is."""
    server = FakeServer(*[wrong(503, "inference") for _ in range(4)])
    with pytest.raises(InferenceFailed, match="A sentence"):
        call(server, lambda rest: rest.list_interviews())


def test_the_rate_limit_says_until_when_in_local_time() -> None:
    """The sentence has the moment of the person's own clock, and the error the exact one."""
    with pytest.raises(RateLimited, match=format_local_time(1e9)) as raised:
        call(FakeServer(wrong(429, "rate_limited", reset=1e9)), lambda rest: rest.list_interviews())
    assert raised.value.reset == 1e9


def test_a_deletion_that_already_happened_is_done() -> None:
    """The answer to the first request may have been lost."""
    server = FakeServer(httpx.ReadError("cut"), wrong(404, "not_found"))
    call(server, lambda rest: rest.delete_interview("i1"))
    assert server.calls == ["DELETE /api/interviews/i1"] * 2


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    """An id from the command line is one segment of the path, whatever is in it."""
    server = FakeServer(wrong(404, "not_found"))
    with pytest.raises(NotFound):
        call(server, lambda rest: rest.get_interview("../../health/live?x"))
    assert server.requests[0].url.raw_path == b"/api/interviews/..%2F..%2Fhealth%2Flive%3Fx"


def test_messages_come_in_order() -> None:
    """Whatever order they are sent in, a transcript is read by position."""
    body = {"messages": [json.loads(encode(said(1))), json.loads(encode(said(0)))]}
    messages: list[Message] = call(FakeServer(ok(body)), lambda rest: rest.get_messages("i1"))
    assert [message.position for message in messages] == [0, 1]


@pytest.mark.parametrize("status", [200, 503])
def test_a_server_that_is_not_ready_tells_how_far_it_is(status: int) -> None:
    """503 is an answer here, and is not tried again."""
    body = {"status": "starting", "version": "1", "models": {"llm": "loading"}}
    server = FakeServer(ok(body, status))
    health = call(server, lambda rest: rest.get_health())
    assert health.models == {"llm": "loading"}
