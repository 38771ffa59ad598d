"""The REST API of a real server, and the format of its errors."""

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
from prepserver.wire import client_messages, rest
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.room_client import open_room
from tests.support.server import Reply, Server

pytestmark = pytest.mark.e2e

PATHS = {
    "/auth/token": {"get"},
    "/api/interviews": {"get", "post"},
    "/api/interviews/{id}": {"get", "patch", "delete"},
    "/api/interviews/{id}/agenda": {"get", "put"},
    "/api/interviews/{id}/messages": {"get"},
    "/api/interviews/{id}/messages/{message}/speech": {"get"},
    "/api/gateway/stats": {"get"},
    "/api/ratelimit": {"get"},
    "/health/live": {"get"},
    "/health/ready": {"get"},
    "/metrics": {"get"},
}


def assert_error(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """Check the status, code and format of an error response, and return the error."""
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


def wait_until_ready(server: Server) -> Reply:
    """Return the response of the readiness check once the server is no longer starting."""
    while (reply := server.request("GET", "/health/ready")).body["status"] == "starting":
        time.sleep(0.02)
    return reply


def test_an_interview_is_created_read_renamed_listed_and_deleted(server: Server, ada: str) -> None:
    """An interview can be created, read, renamed, listed and deleted over REST."""
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
    assert_error(server.request("GET", path, key=ada), 404, ErrorCode.NO_SUCH_INTERVIEW)
    listed = server.request("GET", "/api/interviews", key=ada).body["interviews"]
    assert id not in [view["id"] for view in listed]


def test_creating_an_interview_is_idempotent(server: Server, ada: str) -> None:
    """A creation request that is repeated with the same id returns the existing interview."""
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
    """Requests for another user's interview receive the same error as requests for an unknown
    id."""
    path = f"/api/interviews/{interview}"
    foreign = server.request(method, f"{path}{below}", key=bob, body=body)
    unknown = server.request(method, f"/api/interviews/unknown{below}", key=bob, body=body)
    assert_error(foreign, 404, ErrorCode.NO_SUCH_INTERVIEW)
    assert foreign.body == unknown.body
    mine = server.request("GET", path, key=ada)
    assert (mine.status, mine.body["title"]) == (200, "Software Engineer")


def test_creating_with_another_users_id(server: Server, ada: str, bob: str, interview: str) -> None:
    """A creation request with the id of another user's interview creates an interview with a
    different id."""
    stolen = server.request("POST", "/api/interviews", key=bob, body={"id": interview})
    assert stolen.status == 201
    assert stolen.body["id"] != interview
    assert_error(
        server.request("GET", f"/api/interviews/{interview}/messages", key=bob),
        404,
        ErrorCode.NO_SUCH_INTERVIEW,
    )


@pytest.mark.parametrize(
    "path",
    ["/auth/token", "/api/interviews", "/api/interviews/x", "/api/ratelimit"],
)
def test_requests_without_a_valid_credential(server: Server, path: str) -> None:
    """A request without a credential, or with an unknown or forged credential, is rejected with
    401."""
    foreign = Tokens(b"x" * 32, SystemClock()).issue("u").token
    assert_error(server.request("GET", path), 401, ErrorCode.NO_CREDENTIAL)
    basic = server.request("GET", path, headers={"Authorization": "Basic YTpi"})
    assert_error(basic, 401, ErrorCode.NO_CREDENTIAL)
    assert basic.headers["www-authenticate"] == "Bearer"
    assert_error(server.request("GET", path, key="prep_0_0"), 401, ErrorCode.BAD_ACCESS_KEY)
    code = ErrorCode.BAD_ACCESS_KEY if path == "/auth/token" else ErrorCode.BAD_TOKEN
    assert_error(server.request("GET", path, key=foreign), 401, code)


def test_a_token_cannot_issue_tokens(server: Server, ada: str) -> None:
    """A token gives access to the API, but cannot be exchanged for another token."""
    reply = server.request("GET", "/auth/token", key=ada)
    assert reply.status == 200
    assert 0 < reply.body["expires_at"] - time.time() <= 300
    token = reply.body["token"]
    assert server.request("GET", "/api/interviews", key=token).status == 200
    assert_error(server.request("GET", "/auth/token", key=token), 401, ErrorCode.BAD_ACCESS_KEY)


def test_expired_and_revoked_credentials(server: Server) -> None:
    """An expired token, a removed user's token and a removed user's key are rejected with different
    codes."""
    key = load_signing_key(server.data_dir / "signing.key")
    old = Tokens(key, PastClock())
    mallory = server.add_user("mallory")
    token = server.token(mallory)
    assert server.request("GET", "/api/interviews", key=token).status == 200
    user = Tokens(key, SystemClock()).verify(token)
    expired = server.request("GET", "/api/interviews", key=old.issue(user).token)
    assert_error(expired, 401, ErrorCode.TOKEN_EXPIRED)
    users = Users(server.data_dir / "users.sqlite", SystemClock())
    users.remove("mallory")
    users.close()
    assert_error(server.request("GET", "/api/interviews", key=token), 401, ErrorCode.BAD_TOKEN)
    assert_error(
        server.request("GET", "/api/interviews", key=mallory), 401, ErrorCode.BAD_ACCESS_KEY
    )


class PastClock(SystemClock):
    def now(self) -> float:
        return super().now() - 3_600


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"{", 400, ErrorCode.BAD_REQUEST),
        (b"", 400, ErrorCode.BAD_REQUEST),
        (b"[]", 400, ErrorCode.BAD_REQUEST),
        (b'{"role": 5}', 400, ErrorCode.BAD_REQUEST),
        (b'{"role": ""}', 400, ErrorCode.BAD_REQUEST),
        (b'{"type": "nonsense"}', 400, ErrorCode.BAD_REQUEST),
        (b'{"questions": 0}', 400, ErrorCode.BAD_REQUEST),
        (b'{"questions": 31}', 400, ErrorCode.BAD_REQUEST),
        (b'{"questions": "five"}', 400, ErrorCode.BAD_REQUEST),
        (b'{"id": "../../etc"}', 400, ErrorCode.BAD_REQUEST),
        (b'{"resume": "' + b"x" * 32_001 + b'"}', 400, ErrorCode.BAD_REQUEST),
    ],
)
def test_invalid_bodies(server: Server, ada: str, data: bytes, status: int, code: str) -> None:
    """A body that is not a JSON object or that contains an invalid value is rejected with 400."""
    assert_error(server.request("POST", "/api/interviews", key=ada, data=data), status, code)


def test_an_oversized_body_is_rejected_early(server: Server, ada: str) -> None:
    """An oversized body is rejected because of its Content-Length, before the client sends the
    body."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.putrequest("POST", "/api/interviews")
        connection.putheader("Authorization", f"Bearer {ada}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "600000")
        connection.endheaders()
        with connection.getresponse() as response:
            body = json.loads(response.read())
            reply = Reply(response.status, body, {"content-type": response.headers["content-type"]})
    assert_error(reply, 413, ErrorCode.REQUEST_TOO_LARGE)


def test_the_longest_documents_are_accepted(server: Server, ada: str) -> None:
    """Two documents of the maximum length, in which each character takes four bytes, are
    accepted."""
    body = {"job_description": "𝄞" * 32_000, "resume": "𝄞" * 32_000}
    assert server.request("POST", "/api/interviews", key=ada, body=body).status == 201


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, ErrorCode.NOT_FOUND),
        ("GET", "/", 404, ErrorCode.NOT_FOUND),
        ("PUT", "/api/interviews", 405, ErrorCode.METHOD_NOT_ALLOWED),
        ("POST", "/health/live", 405, ErrorCode.METHOD_NOT_ALLOWED),
        ("GET", "/parties/interview/x", 426, ErrorCode.NOT_WEBSOCKET),
        ("GET", "/parties/x", 426, ErrorCode.NOT_WEBSOCKET),
    ],
)
def test_unknown_paths_and_methods(
    server: Server, ada: str, method: str, path: str, status: int, code: str
) -> None:
    """A request for an unknown path, a request with a wrong method and a plain HTTP request for a
    room receive different error codes."""
    data = b"{}" if method in ("PUT", "POST") else None
    assert_error(server.request(method, path, key=ada, data=data), status, code)


def test_the_schema_lists_every_path(server: Server) -> None:
    """The OpenAPI schema lists every path of the API with its methods, and no other path."""
    reply = server.request("GET", "/schema")
    assert reply.status == 200
    assert reply.body["openapi"].startswith("3.")
    assert {path: set(methods) for path, methods in reply.body["paths"].items()} == PATHS


def test_health_needs_no_credential(server: Server) -> None:
    """The health checks need no credential."""
    live = server.request("GET", "/health/live")
    assert (live.status, live.body["status"]) == (200, "ok")
    reply = wait_until_ready(server)
    assert reply.status == 200
    assert reply.body["status"] == "ok"
    assert set(reply.body["models"].values()) == {"ready"}


def test_the_quota_is_reported(server: Server) -> None:
    """The reported quota is full for a new user and decreases with the first question that the
    model writes."""
    key = server.add_user("carol")
    fresh = server.request("GET", "/api/ratelimit", key=key)
    assert fresh.body == {"limit": 1_000, "remaining": 1_000, "reset": None}
    id = server.request("POST", "/api/interviews", key=key, body={}).body["id"]
    with open_room(server.room("interview", id, server.token(key))) as room:
        room.wait_for_question()
        assert server.request("GET", "/api/ratelimit", key=key).body["remaining"] == 1_000
        room.send(client_messages.UserMessage(text="I wrote a service in Python."))
        room.next_of_kind(wire.MessageKind.QUESTION)
    used = server.request("GET", "/api/ratelimit", key=key).body
    assert used["remaining"] == 999
    assert 86_000 < used["reset"] - time.time() <= 86_400


def test_responses_decode_as_their_structs(server: Server, ada: str, interview: str) -> None:
    """The body of a GET response decodes as the struct that `prepserver.wire` defines for the
    endpoint."""
    for path, kind in (
        ("/auth/token", rest.RoomToken),
        ("/api/interviews", rest.InterviewList),
        (f"/api/interviews/{interview}", wire.Interview),
        (f"/api/interviews/{interview}/messages", rest.MessageList),
        ("/api/ratelimit", wire.Quota),
        ("/health/live", rest.Health),
    ):
        msgspec.convert(server.request("GET", path, key=ada).body, kind)
    assert_error(
        server.request("GET", "/api/interviews/x", key=ada), 404, ErrorCode.NO_SUCH_INTERVIEW
    )
