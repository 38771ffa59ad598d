"""Odd bytes in REST requests and in the frames of a socket: typed errors, and no failure."""

import json
import threading
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from websockets.sync.client import connect

from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.odd_bytes import odd_json
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.time_limit(600)]

BODIES = 5_000
FRAMES = 10_000

CODES = {str(code) for code in ErrorCode}

REQUESTS: list[dict[str, Any]] = [
    {"id": "one", "role": "Cook – chef", "company": "Café", "type": "mixed", "questions": 3},
    {"role": "SRE", "level": "senior", "resume": "Ten years\nof Python", "job_description": "Go"},
    {"title": "Dream job"},
]

MESSAGES: list[dict[str, Any]] = [
    {"type": "get_all_messages"},
    {"type": "user.typing", "draft": "I wou"},
    {"type": "user.recording"},
    {"type": "user.message", "id": "m1", "text": "I would measure it – first."},
    {"type": "audio.start", "id": "a1"},
    {"type": "audio.stop", "id": "a1", "frames": 2},
    {"type": "audio.cancel", "id": "a2"},
    {"type": "hint.request", "id": "h1"},
    {"type": "turn.stop"},
    {"type": "turn.retry", "id": "r1"},
    {"type": "message.edit", "id": "e1", "message_id": "m1", "text": "Or so."},
]


def odd_segment(random: Random) -> str:
    """Return one segment of a path, percent-encoded."""
    choices = (b"\x00", b"\xff\xfe", b"%", b"..", b"x" * 3_000, b"\xed\xa0\x80", b"a/b", b"", b"\n")
    return quote(random.choice(choices) + random.randbytes(random.randrange(4)), safe="")


def failures(log: str) -> list[str]:
    """Return the lines of a server's log that report an unexpected failure."""
    signs = ("Traceback", "request.failed", "object.failed", "work_failed", "mailbox.failed")
    return [line for line in log.splitlines() if any(sign in line for sign in signs)]


def test_odd_request_bodies_get_typed_errors(server: Server, ada: str, interview: str) -> None:
    """5,000 odd bodies, paths, queries and headers are answered without a status of 5xx, and each
    error has a known code."""
    random = Random(9)
    statuses: Counter[int] = Counter()
    before = len(server.log)
    types = ("application/json", "text/plain", "application/json; charset=utf-16", "x", "")
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        for number in range(BODIES):
            method, path = random.choice(
                (
                    ("POST", "/api/interviews"),
                    ("POST", "/api/interviews"),
                    ("PATCH", f"/api/interviews/{interview}"),
                    ("PATCH", f"/api/interviews/{interview}"),
                    ("GET", f"/api/interviews/{odd_segment(random)}"),
                    ("DELETE", f"/api/interviews/{odd_segment(random)}/messages"),
                    ("GET", f"/api/interviews/{interview}/messages/{odd_segment(random)}/speech"),
                    ("PUT", f"/{odd_segment(random)}?{odd_segment(random)}={odd_segment(random)}"),
                )
            )
            headers = {"Authorization": f"Bearer {ada}", "Content-Type": "application/json"}
            if random.random() < 0.1:
                headers["Content-Type"] = random.choice(types)
            if random.random() < 0.05:
                headers["Authorization"] = random.choice(
                    ("Bearer", "Bearer \xff\xfe", "Basic eA==")
                )
            body = odd_json(random, REQUESTS) if method in ("POST", "PATCH", "PUT") else None
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
            statuses[response.status] += 1
            assert response.status < 500, (number, method, path, body, content)
            if response.status >= 400:
                error = json.loads(content)["error"]
                assert error["code"] in CODES, (number, error)
    print(f"{BODIES} bodies: {dict(sorted(statuses.items()))}")
    assert failures(server.log[before:]) == []
    assert statuses[400] > BODIES // 4
    assert statuses[200] + statuses[201] > 0


def test_odd_frames_leave_the_room_alive(server: Server, ada: str, interview: str) -> None:
    """10,000 odd text and binary frames get typed errors without a failure, and afterwards the
    same socket goes on with the interview."""
    random = Random(9)
    before = len(server.log)
    codes: Counter[str] = Counter()
    with open_room(server.room("interview", interview, server.token(ada))) as room:
        room.wait_for_question()
        reader = threading.Thread(target=count_errors, args=(room, codes))
        reader.start()
        for number in range(FRAMES):
            if random.random() < 0.3:
                head = random.choice((b"", b"\x00", number.to_bytes(4, "big"), b"\xff\xff\xff\xff"))
                room.send(head + random.randbytes(random.choice((0, 1, 2, 64, 1_281))))
            else:
                room.send(odd_json(random, MESSAGES)[:16_000].decode("utf-8", "replace"))
        room.send(client_messages.GetAllMessages(id="last"))
        reader.join(120)
        assert not reader.is_alive()
    print(f"{FRAMES} frames: {dict(codes.most_common())}")
    assert failures(server.log[before:]) == []
    assert set(codes) <= CODES
    assert codes["bad_message"] > FRAMES // 4
    assert not {"internal", "storage"} & set(codes)
    with open_room(server.room("interview", interview, server.token(ada))) as room:
        snapshot = room.next(wire.Snapshot)
        if snapshot.failed is not None:
            room.send(client_messages.TurnRetry(id="again"))
        if snapshot.failed is not None or snapshot.state is not wire.Phase.IDLE:
            room.wait_for(lambda m: isinstance(m, wire.StateChanged) and m.state is wire.Phase.IDLE)
        room.check_interview_continues()


def count_errors(room: RoomClient, codes: Counter[str]) -> None:
    """Count the errors that the room sends, by code, until the message `last` is accepted."""
    while True:
        message = codec.decode_server(room.connection.recv(timeout=60))
        if isinstance(message, wire.Failure):
            codes[message.code] += 1
        elif isinstance(message, wire.Accepted) and message.id == "last":
            return


@pytest.mark.parametrize(
    "text", [b"\xff", b'{"type":"user.message","text":"\xed\xa0\x80"}', b"\xc3"]
)
def test_a_text_frame_that_is_not_utf8_closes_only_its_socket(
    server: Server, ada: str, interview: str, room: RoomClient, text: bytes
) -> None:
    """A text frame that is not valid UTF-8 closes its socket with code 1007, as the protocol
    requires, and other sockets of the room stay open."""
    with connect(server.room("interview", interview, server.token(ada))) as broken:
        broken.send(text, text=True)
        assert RoomClient(broken).wait_for_close() == 1007
    room.check_interview_continues()
