"""Rooms of a real server: handshakes, and responses to messages."""

import json
import time

import pytest

from prepserver.accounts.tokens import Tokens, load_signing_key
from prepserver.accounts.users import Users
from prepserver.clock import SystemClock
from prepserver.wire import client_messages, limits
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.room_client import RoomClient, open_room, rejected_handshake
from tests.support.server import Server

pytestmark = pytest.mark.e2e


# --- The handshake ------------------------------------------------------------------------------


class PastClock(SystemClock):
    def now(self) -> float:
        return super().now() - 301


@pytest.mark.parametrize("party", ["interview", "user-interviews"])
def test_bad_tokens_are_rejected_at_the_handshake(
    server: Server, ada: str, interview: str, party: str
) -> None:
    """A handshake without a valid token is rejected with 401 and an error code for the reason."""
    key = load_signing_key(server.data_dir / "signing.key")
    user = Tokens(key, SystemClock()).verify(server.token(ada))
    room = interview if party == "interview" else user
    head, body, _ = server.token(ada).split(".")
    for token, code in (
        ("", ErrorCode.NO_CREDENTIAL),
        ("rubbish", ErrorCode.BAD_TOKEN),
        (Tokens(key, PastClock()).issue(user).token, ErrorCode.TOKEN_EXPIRED),
        (Tokens(b"x" * 32, SystemClock()).issue(user).token, ErrorCode.BAD_TOKEN),
        (f"{head}.{body}.", ErrorCode.BAD_TOKEN),
        (Tokens(key, SystemClock()).issue("nobody").token, ErrorCode.BAD_TOKEN),
        (ada, ErrorCode.BAD_TOKEN),
    ):
        reply = rejected_handshake(server.room(party, room, token))
        assert reply.status == 401
        assert reply.body["error"]["code"] == code


def test_a_removed_users_token_is_rejected_at_the_handshake(server: Server) -> None:
    """A removed user's token is rejected at the handshake, even before the token expires."""
    token = server.token(server.add_user("dan"))
    with open_room(server.room("user-interviews", "me", token)) as socket:
        socket.next(wire.Hello)
    users = Users(server.data_dir / "users.sqlite", SystemClock())
    users.remove("dan")
    users.close()
    assert rejected_handshake(server.room("user-interviews", "me", token)).status == 401


def test_another_users_rooms_are_rejected_at_the_handshake(
    server: Server, ada: str, bob: str, interview: str
) -> None:
    """A handshake is rejected with 404 for another user's interview and with 403 for another user's
    interview list."""
    token = server.token(bob)
    foreign = rejected_handshake(server.room("interview", interview, token))
    unknown = rejected_handshake(server.room("interview", "unknown", token))
    assert foreign.status == 404
    assert foreign.body == unknown.body
    hers = Tokens(load_signing_key(server.data_dir / "signing.key"), SystemClock()).verify(
        server.token(ada)
    )
    reply = rejected_handshake(server.room("user-interviews", hers, token))
    assert (reply.status, reply.body["error"]["code"]) == (403, ErrorCode.NOT_YOUR_ROOM)


def test_an_unknown_party_is_rejected_at_the_handshake(server: Server, ada: str) -> None:
    """A handshake for an unknown party is rejected with 404, and the error lists the valid
    parties."""
    reply = rejected_handshake(server.room("poker", "x", server.token(ada)))
    assert (reply.status, reply.body["error"]["code"]) == (404, ErrorCode.NO_SUCH_PARTY)
    assert "user-interviews" in reply.body["error"]["message"]


def test_both_addresses_lead_to_the_room(server: Server, ada: str, interview: str) -> None:
    """An interview's room can be reached under both /parties and /party, and `_pk` sets the
    connection's id."""
    url = server.room("interview", interview, server.token(ada), _pk="my-connection")
    for address in (url, url.replace("/parties/", "/party/")):
        with open_room(address) as socket:
            hello = socket.next(wire.Hello)
            assert (hello.connection, hello.room, hello.party, hello.protocol) == (
                "my-connection",
                interview,
                "interview",
                wire.PROTOCOL_VERSION,
            )


def test_an_invalid_connection_id_is_replaced(server: Server, ada: str, interview: str) -> None:
    """The server replaces an invalid `_pk` with a generated connection id."""
    url = server.room("interview", interview, server.token(ada), _pk="no good / id")
    with open_room(url) as socket:
        made = socket.next(wire.Hello).connection
        assert made.isalnum()
        assert len(made) == 32


# --- Messages -----------------------------------------------------------------------------------


def test_hello_and_a_snapshot_come_first(server: Server, ada: str, room: RoomClient) -> None:
    """The first two messages on a connection are `hello` and a snapshot of the transcript."""
    room.send(client_messages.UserMessage(text="My answer.", id="a"))
    room.next_of_kind(wire.MessageKind.QUESTION)
    assert isinstance(room.messages[0], wire.Hello)
    with open_room(server.room("interview", room.messages[0].room, server.token(ada))) as late:
        late.next(wire.Snapshot)
        hello, snapshot = late.messages
        assert isinstance(hello, wire.Hello)
        assert isinstance(snapshot, wire.Snapshot)
        assert [m.kind for m in snapshot.messages] == ["question", "answer", "question"]
        assert snapshot.ratelimit is not None


@pytest.mark.parametrize(
    ("message", "id"),
    [
        ('{"type":"no.such.tag","id":"m1"}', "m1"),
        ('{"type":"user.message","text":5,"id":"m2"}', "m2"),
        ('{"type":"user.message","id":"m3"}', "m3"),
        ('{"type":"audio.stop","id":"m4","frames":-1}', "m4"),
        ('{"type":"user.typing","id":"not an id!"}', ""),
        ('{"id":"m5"}', "m5"),
        ('["user.typing"]', ""),
        ("{", ""),
        ("", ""),
        ("null", ""),
        ('{"type":"user.message","text":"' + "x" * 16_001 + '","id":"m6"}', "m6"),
    ],
)
def test_invalid_messages_are_rejected_by_id(room: RoomClient, message: str, id: str) -> None:
    """An invalid message is rejected with an error that gives the message's id, if the id is
    readable, and the interview continues."""
    room.send(message)
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id, failure.retryable) == (ErrorCode.BAD_MESSAGE, id, False)
    assert failure.message
    room.check_interview_continues()


def test_unknown_fields_are_skipped(room: RoomClient) -> None:
    """Unknown fields in a message are ignored."""
    room.send('{"type":"user.message","text":"Hello.","id":"m","mood":"good"}')
    assert room.next(wire.Accepted).id == "m"


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_answer_is_rejected(room: RoomClient, text: str) -> None:
    """An empty answer is rejected, and the question stays open."""
    room.send(client_messages.UserMessage(text=text, id="m"))
    failure = room.next(wire.Failure)
    assert (failure.code, failure.id) == (ErrorCode.EMPTY_ANSWER, "m")
    room.check_interview_continues()


def test_the_longest_answer_is_accepted(room: RoomClient) -> None:
    """An answer of the maximum length, in which each character takes four bytes, is accepted."""
    room.send(client_messages.UserMessage(text="𝄞" * limits.MAX_ANSWER, id="m"))
    assert room.next(wire.Accepted).id == "m"


@pytest.mark.parametrize("character", ["x", "ü"])
def test_an_oversized_message_closes_only_its_connection(
    server: Server, ada: str, room: RoomClient, character: str
) -> None:
    """An oversized message closes its connection with close code 1009; other connections are
    unaffected."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    size = 1_000_000 if character == "x" else limits.MAX_TEXT_FRAME // 2
    with open_room(server.room("interview", hello.room, server.token(ada))) as loud:
        loud.next(wire.Snapshot)
        loud.send(
            json.dumps({"type": "user.message", "text": character * size}, ensure_ascii=False)
        )
        assert loud.next(wire.Failure).code == ErrorCode.MESSAGE_TOO_BIG
        assert loud.wait_for_close() == wire.CLOSE_TOO_BIG
    room.check_interview_continues()


def test_messages_after_an_oversized_one_are_discarded(
    server: Server, ada: str, room: RoomClient
) -> None:
    """Messages that follow an oversized message on the same connection are discarded."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    with open_room(server.room("interview", hello.room, server.token(ada))) as loud:
        loud.next(wire.Snapshot)
        loud.send("x" * 100_000)
        loud.send(client_messages.UserMessage(text="too late"))
        loud.wait_for_close()
    room.check_interview_continues()
    assert not any(
        isinstance(m, wire.InterviewMessage) and "late" in m.message.text for m in room.messages
    )


def test_a_repeated_answer_counts_once(room: RoomClient) -> None:
    """An answer that is resent under the same id is accepted again and stored once."""
    for _ in range(3):
        room.send(client_messages.UserMessage(text="Once.", id="same"))
        assert room.next(wire.Accepted).id == "same"
    room.send(client_messages.GetAllMessages())
    snapshot = room.next(wire.Snapshot)
    assert [m.text for m in snapshot.messages if m.kind == "answer"] == ["Once."]


def test_an_answer_without_an_open_question_is_rejected(room: RoomClient) -> None:
    """An answer that arrives while the interviewer is working is rejected as `busy`."""
    room.send(client_messages.UserMessage(text="One.", id="1"))
    room.send(client_messages.UserMessage(text="Two.", id="2"))
    outcome = room.wait_for(lambda m: isinstance(m, wire.Failure | wire.Accepted) and m.id == "2")
    if isinstance(outcome, wire.Failure):  # the scripted model may have been quicker
        assert outcome.code == ErrorCode.BUSY
        assert outcome.retryable


def test_a_connection_id_is_taken_over(server: Server, ada: str, interview: str) -> None:
    """A new connection replaces an open connection with the same id."""
    url = server.room("interview", interview, server.token(ada), _pk="same")
    with open_room(url) as old:
        old.next(wire.Snapshot)
        with open_room(url) as new:
            new.next(wire.Snapshot)
            assert old.wait_for_close() == 1000
            new.send(client_messages.GetAllMessages())
            new.next(wire.Snapshot)


def test_deleting_an_interview_closes_its_connections(
    server: Server, ada: str, room: RoomClient
) -> None:
    """Deleting an interview closes its connections with close code 4004."""
    hello = room.messages[0]
    assert isinstance(hello, wire.Hello)
    server.request("DELETE", f"/api/interviews/{hello.room}", key=ada)
    assert room.wait_for_close() == 4004
    assert rejected_handshake(server.room("interview", hello.room, server.token(ada))).status == 404


def test_the_list_reports_changes_of_interviews(server: Server) -> None:
    """A client in the interview list's room receives a message when an interview is created,
    changed or deleted over REST."""
    key = server.add_user(f"eve-{time.monotonic_ns()}")
    with open_room(server.room("user-interviews", "me", server.token(key))) as lobby:
        assert lobby.next(wire.Snapshot).interviews == []
        id = server.request("POST", "/api/interviews", key=key, body={}).body["id"]
        assert lobby.next(wire.InterviewCreated).interview.id == id
        server.request("PATCH", f"/api/interviews/{id}", key=key, body={"title": "New"})
        lobby.wait_for(
            lambda m: isinstance(m, wire.InterviewUpdated) and m.interview.title == "New"
        )
        server.request("DELETE", f"/api/interviews/{id}", key=key)
        assert lobby.next(wire.InterviewDeleted).interview_id == id
