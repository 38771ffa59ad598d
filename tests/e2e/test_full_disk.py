"""Server on a disk that fills up and later has space again.

The kernel simulates the full disk: the tests lower RLIMIT_FSIZE of the running server, so that
writes to databases and to the log fail.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="requires prlimit(2)"),
]


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """Make the server's writes beyond the first 512 bytes of any file fail."""
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (512, unlimited[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)


def next_failure(socket: RoomClient, id: str) -> wire.Failure:
    """Return the next failure that the server sends for the message with the id `id`."""
    failure = socket.wait_for(lambda m: isinstance(m, wire.Failure) and m.id == id)
    assert isinstance(failure, wire.Failure)
    return failure


def test_a_full_disk_rejects_writes_until_it_has_space(tmp_path: Path) -> None:
    """While the disk is full, reads succeed, but answers and new interviews fail with `storage` and
    leave no trace; an answer that is resent later is stored once."""
    with Server(tmp_path) as server:
        key = server.add_user()
        created = server.request("POST", "/api/interviews", key=key, body={"role": "Cook"})
        id = str(created.body["id"])
        path = f"/api/interviews/{id}/messages"
        with open_room(server.room("interview", id, server.token(key))) as socket:
            socket.wait_for_question()
            with full_disk(server):
                for _ in range(3):
                    socket.send(
                        client_messages.UserMessage(text="I would measure first.", id="mine")
                    )
                    failure = next_failure(socket, "mine")
                    assert (failure.code, failure.retryable) == (ErrorCode.STORAGE, True)
                reply = server.request("POST", "/api/interviews", key=key, body={"role": "Pilot"})
                assert (reply.status, reply.body["error"]["code"]) == (503, ErrorCode.STORAGE)
                assert server.request("GET", "/health/live").status == 200
                assert len(server.request("GET", path, key=key).body["messages"]) == 1
            socket.send(client_messages.UserMessage(text="I would measure first.", id="mine"))
            assert socket.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")
            socket.send(client_messages.UserMessage(text="I would measure first.", id="mine"))
            socket.wait_for(lambda m: m == wire.Accepted(id="mine"))
        kinds = [
            message["kind"] for message in server.request("GET", path, key=key).body["messages"]
        ]
        assert kinds == ["question", "answer", "question"]
        listed = server.request("GET", "/api/interviews", key=key).body["interviews"]
        assert [interview["role"] for interview in listed] == ["Cook"]
        assert server.terminate() == 0
    with Server(tmp_path) as server:
        assert len(server.request("GET", path, key=key).body["messages"]) == 3


def test_a_turn_that_ends_on_a_full_disk_is_finished_later(tmp_path: Path) -> None:
    """If the disk is full when a turn ends, the room receives an error, and the question follows
    once the disk has space again."""
    with Server(tmp_path, "--scripted-delay", "0.1") as server:
        key = server.add_user()
        created = server.request("POST", "/api/interviews", key=key, body={"role": "Cook"})
        id = str(created.body["id"])
        with open_room(server.room("interview", id, server.token(key))) as socket:
            socket.wait_for_question()
            socket.send(client_messages.UserMessage(text="I would measure first.", id="mine"))
            socket.wait_for(lambda m: m == wire.Accepted(id="mine"))
            with full_disk(server):
                failure = socket.next(wire.Failure)
                assert failure.code == ErrorCode.STORAGE
            assert socket.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")
        assert server.terminate() == 0


class ServerWithFullLog(Server):
    """Server whose log is on a full device."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log_file = Path("/dev/full")

    @property
    def log(self) -> str:
        return ""  # reading /dev/full never ends


def test_an_unwritable_log_has_no_effect_on_interviews(tmp_path: Path) -> None:
    """Interviews can begin, continue and be deleted although the log cannot be written."""
    with ServerWithFullLog(tmp_path) as server:
        key = server.add_user()
        created = server.request("POST", "/api/interviews", key=key, body={"role": "Cook"})
        id = str(created.body["id"])
        with open_room(server.room("interview", id, server.token(key))) as socket:
            socket.wait_for_question()
            socket.check_interview_continues()
        assert server.request("DELETE", f"/api/interviews/{id}", key=key).status == 204
        deadline = time.monotonic() + 30
        while list(server.data_dir.glob("objects/interview/*/*.sqlite")):
            assert time.monotonic() < deadline, "the database was not deleted"
            time.sleep(0.05)
        assert server.terminate() == 0
