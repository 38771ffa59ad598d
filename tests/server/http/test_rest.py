"""The REST API of a real server: what it does, and how every refusal looks."""

import json
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import msgspec
import pytest

from prepserver.accounts.tokens import Tokens, load_signing_key
from prepserver.accounts.users import Users
from prepserver.clock import SystemClock
from prepserver.wire import protocol as wire
from prepserver.wire import rest
from tests.support.server import Reply, Server

pytestmark = pytest.mark.e2e

PATHS = {
    "/auth/token": {"get"},
    "/api/interviews": {"get", "post"},
    "/api/interviews/{id}": {"get", "patch", "delete"},
    "/api/interviews/{id}/messages": {"get"},
    "/api/interviews/{id}/messages/{message}/speech": {"get"},
    "/api/gateway/stats": {"get"},
    "/api/ratelimit": {"get"},
    "/health/live": {"get"},
    "/health/ready": {"get"},
    "/metrics": {"get"},
}


def assert_error(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The one shape of every error."""
    assert reply.status == status, reply
    assert set(reply.body) == {"error"}
    error: dict[str, Any] = reply.body["error"]
    assert set(error) == {"code", "message", "retryable", "details"}
    assert error["code"] == code
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["retryable"], bool)
    assert isinstance(error["details"], dict)
    assert reply.headers["content-type"].startswith("application/json")
    return error


def ready(server: Server) -> Reply:
    """The answer of the health check once nothing is loading."""
    while (reply := server.request("GET", "/health/ready")).body["status"] == "starting":
        time.sleep(0.02)
    return reply


def test_an_interview_is_created_read_renamed_listed_and_deleted(server: Server, ada: str) -> None:
    """The whole life of an interview, as a client without a socket sees it."""
    body = {"role": "SRE", "company": "Initech", "type": "technical", "level": "senior"}
    created = server.request("POST", "/api/interviews", key=ada, body={**body, "questions": 2})
    assert created.status == 201
    id = created.body["id"]
    assert created.body["title"] == "SRE at Initech"
    assert (created.body["type"], created.body["level"], created.body["questions"]) == (
        "technical",
        "senior",
        2,
    )
    path = f"/api/interviews/{id}"
    assert server.request("GET", path, key=ada).body["id"] == id
    renamed = server.request("PATCH", path, key=ada, body={"title": "Dream job"})
    assert (renamed.status, renamed.body["title"]) == (200, "Dream job")
    assert server.request("PATCH", path, key=ada, body={}).body["title"] == "Dream job"
    listed = server.request("GET", "/api/interviews", key=ada).body["interviews"]
    assert [view["title"] for view in listed if view["id"] == id] == ["Dream job"]
    messages = server.request("GET", f"{path}/messages", key=ada)
    assert messages.status == 200
    assert isinstance(messages.body["messages"], list)
    deleted = server.request("DELETE", path, key=ada)
    assert (deleted.status, deleted.body) == (204, None)
    assert_error(server.request("GET", path, key=ada), 404, "no_such_interview")
    listed = server.request("GET", "/api/interviews", key=ada).body["interviews"]
    assert id not in [view["id"] for view in listed]


def test_the_same_creation_twice_is_one_interview(server: Server, ada: str) -> None:
    """A client that did not hear the answer asks again with its own id."""
    replies = [
        server.request("POST", "/api/interviews", key=ada, body={"id": "once"}) for _ in range(2)
    ]
    assert len({reply.body["id"] for reply in replies}) == 1


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"title": "Mine now"}),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("GET", "/messages", None),
    ],
)
def test_another_users_interview_is_not_found(
    server: Server, ada: str, bob: str, interview: str, method: str, below: str, body: Any
) -> None:
    """Nobody learns that it exists, and nothing happens to it."""
    path = f"/api/interviews/{interview}"
    foreign = server.request(method, f"{path}{below}", key=bob, body=body)
    unknown = server.request(method, f"/api/interviews/unknown{below}", key=bob, body=body)
    assert_error(foreign, 404, "no_such_interview")
    assert foreign.body == unknown.body
    mine = server.request("GET", path, key=ada)
    assert (mine.status, mine.body["title"]) == (200, "Software Engineer")


def test_creating_with_anothers_id_gives_an_interview_of_ones_own(
    server: Server, ada: str, bob: str, interview: str
) -> None:
    """The id of a request is no way into somebody's transcript."""
    stolen = server.request("POST", "/api/interviews", key=bob, body={"id": interview})
    assert stolen.status == 201
    assert stolen.body["id"] != interview
    assert_error(
        server.request("GET", f"/api/interviews/{interview}/messages", key=bob),
        404,
        "no_such_interview",
    )


@pytest.mark.parametrize(
    "path",
    ["/auth/token", "/api/interviews", "/api/interviews/x", "/api/ratelimit"],
)
def test_without_a_known_credential_nothing_is_given(server: Server, path: str) -> None:
    """No header, another scheme, a wrong key, a token of another server: 401 each time."""
    foreign = Tokens(b"x" * 32, SystemClock()).issue("u").token
    assert_error(server.request("GET", path), 401, "no_credential")
    basic = server.request("GET", path, headers={"Authorization": "Basic YTpi"})
    assert_error(basic, 401, "no_credential")
    assert basic.headers["www-authenticate"] == "Bearer"
    assert_error(server.request("GET", path, key="prep_0_0"), 401, "bad_access_key")
    code = "bad_access_key" if path == "/auth/token" else "bad_token"
    assert_error(server.request("GET", path, key=foreign), 401, code)


def test_a_token_opens_the_api_but_makes_no_tokens(server: Server, ada: str) -> None:
    """Otherwise five minutes would be for ever."""
    reply = server.request("GET", "/auth/token", key=ada)
    assert reply.status == 200
    assert 0 < reply.body["expires_at"] - time.time() <= 300
    token = reply.body["token"]
    assert server.request("GET", "/api/interviews", key=token).status == 200
    assert_error(server.request("GET", "/auth/token", key=token), 401, "bad_access_key")


def test_an_expired_token_and_a_removed_users_are_refused(server: Server) -> None:
    """Each with its own code, so that a client knows whether a new token helps."""
    key = load_signing_key(server.data_dir / "signing.key")
    old = Tokens(key, _Past())
    mallory = server.add_user("mallory")
    token = server.token(mallory)
    assert server.request("GET", "/api/interviews", key=token).status == 200
    user = Tokens(key, SystemClock()).verify(token)
    expired = server.request("GET", "/api/interviews", key=old.issue(user).token)
    assert_error(expired, 401, "token_expired")
    users = Users(server.data_dir / "users.sqlite", SystemClock())
    users.remove("mallory")
    users.close()
    assert_error(server.request("GET", "/api/interviews", key=token), 401, "bad_token")
    assert_error(server.request("GET", "/api/interviews", key=mallory), 401, "bad_access_key")


class _Past(SystemClock):
    def now(self) -> float:
        return super().now() - 3_600


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b"", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b'{"role": 5}', 400, "bad_request"),
        (b'{"role": ""}', 400, "bad_request"),
        (b'{"type": "nonsense"}', 400, "bad_request"),
        (b'{"questions": 0}', 400, "bad_request"),
        (b'{"questions": 31}', 400, "bad_request"),
        (b'{"questions": "five"}', 400, "bad_request"),
        (b'{"id": "../../etc"}', 400, "bad_request"),
        (b'{"resume": "' + b"x" * 32_001 + b'"}', 400, "bad_request"),
    ],
)
def test_a_body_that_does_not_fit_is_told_in_the_same_shape(
    server: Server, ada: str, data: bytes, status: int, code: str
) -> None:
    """Not JSON, wrong types, out of bounds."""
    assert_error(server.request("POST", "/api/interviews", key=ada, data=data), status, code)


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Server, ada: str) -> None:
    """Its announced length is enough to know."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.putrequest("POST", "/api/interviews")
        connection.putheader("Authorization", f"Bearer {ada}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "600000")
        connection.endheaders()
        with connection.getresponse() as response:
            body = json.loads(response.read())
            reply = Reply(response.status, body, {"content-type": response.headers["content-type"]})
    assert_error(reply, 413, "request_too_large")


def test_the_longest_documents_are_accepted(server: Server, ada: str) -> None:
    """Two documents of 32,000 characters, four bytes each."""
    body = {"job_description": "𝄞" * 32_000, "resume": "𝄞" * 32_000}
    assert server.request("POST", "/api/interviews", key=ada, body=body).status == 201


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("PUT", "/api/interviews", 405, "method_not_allowed"),
        ("POST", "/health/live", 405, "method_not_allowed"),
        ("GET", "/parties/interview/x", 426, "not_websocket"),
        ("GET", "/parties/x", 426, "not_websocket"),
    ],
)
def test_an_address_that_is_none_is_told_in_the_same_shape(
    server: Server, ada: str, method: str, path: str, status: int, code: str
) -> None:
    """No route, no such method, a room without a socket."""
    data = b"{}" if method in ("PUT", "POST") else None
    assert_error(server.request(method, path, key=ada, data=data), status, code)


def test_the_schema_lists_every_path(server: Server) -> None:
    """OpenAPI at /schema, with each path and each method, and nothing else."""
    reply = server.request("GET", "/schema")
    assert reply.status == 200
    assert reply.body["openapi"].startswith("3.")
    assert {path: set(methods) for path, methods in reply.body["paths"].items()} == PATHS


def test_health_needs_no_credential(server: Server) -> None:
    """Alive at once, ready when the models are."""
    live = server.request("GET", "/health/live")
    assert (live.status, live.body["status"]) == (200, "ok")
    reply = ready(server)
    assert reply.status == 200
    assert reply.body["status"] == "ok"
    assert set(reply.body["models"].values()) == {"ready"}


def test_the_quota_is_shown(server: Server) -> None:
    """Untouched for a new user, less after an interview has asked its first question."""
    key = server.add_user("carol")
    fresh = server.request("GET", "/api/ratelimit", key=key)
    assert fresh.body == {"limit": 1_000, "remaining": 1_000, "reset": None}
    id = server.request("POST", "/api/interviews", key=key, body={}).body["id"]
    while not server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"]:
        time.sleep(0.02)
    used = server.request("GET", "/api/ratelimit", key=key).body
    assert used["remaining"] == 998
    assert 86_000 < used["reset"] - time.time() <= 86_400


def test_answers_of_the_api_decode_as_the_contract_says(
    server: Server, ada: str, interview: str
) -> None:
    """Every body is the struct that the wire names."""
    for path, kind in (
        ("/auth/token", rest.RoomToken),
        ("/api/interviews", rest.InterviewList),
        (f"/api/interviews/{interview}", wire.Interview),
        (f"/api/interviews/{interview}/messages", rest.MessageList),
        ("/api/ratelimit", wire.Quota),
        ("/health/live", rest.Health),
    ):
        msgspec.convert(server.request("GET", path, key=ada).body, kind)
    assert_error(server.request("GET", "/api/interviews/x", key=ada), 404, "no_such_interview")
