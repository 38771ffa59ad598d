"""A real server whose files cannot grow any more, as on a full disk, and then can again.

The kernel itself refuses: the limit on the size of a file is taken down under the running process
(RLIMIT_FSIZE), so that every write behind it fails, of databases and of the log alike.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of another process need prlimit(2)"),
]


@contextmanager
def nothing_fits(server: Server) -> Iterator[None]:
    """Meanwhile no file of the server takes a byte behind its first 512."""
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (512, unlimited[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)


def refused(socket: RoomClient, id: str) -> wire.Failure:
    """The error that names a message of the client."""
    failure = socket.wait_for(lambda m: isinstance(m, wire.Failure) and m.id == id)
    assert isinstance(failure, wire.Failure)
    return failure


def test_a_server_on_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Answers and new interviews get the typed error and nothing of them is kept; rooms stay open,
    reading goes on, and what is sent again afterwards counts once."""
    with Server(tmp_path) as server:
        key = server.add_user()
        created = server.request("POST", "/api/interviews", key=key, body={"role": "Cook"})
        id = str(created.body["id"])
        path = f"/api/interviews/{id}/messages"
        with open_room(server.room("interview", id, server.token(key))) as socket:
            socket.wait_for_question()
            with nothing_fits(server):
                for _ in range(3):
                    socket.send(wire.UserMessage(text="I would measure first.", id="mine"))
                    failure = refused(socket, "mine")
                    assert (failure.code, failure.retryable) == (ErrorCode.STORAGE, True)
                reply = server.request("POST", "/api/interviews", key=key, body={"role": "Pilot"})
                assert (reply.status, reply.body["error"]["code"]) == (503, ErrorCode.STORAGE)
                assert server.request("GET", "/health/live").status == 200
                assert len(server.request("GET", path, key=key).body["messages"]) == 1
            socket.send(wire.UserMessage(text="I would measure first.", id="mine"))
            assert socket.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")
            socket.send(wire.UserMessage(text="I would measure first.", id="mine"))
            socket.wait_for(lambda m: m == wire.Accepted(id="mine"))
        kinds = [one["kind"] for one in server.request("GET", path, key=key).body["messages"]]
        assert kinds == ["question", "answer", "question"]
        listed = server.request("GET", "/api/interviews", key=key).body["interviews"]
        assert [one["role"] for one in listed] == ["Cook"]
        assert server.terminate() == 0
    with Server(tmp_path) as server:
        assert len(server.request("GET", path, key=key).body["messages"]) == 3


def test_a_turn_that_ends_on_a_full_disk_is_finished_when_there_is_room(tmp_path: Path) -> None:
    """The room is told, not even the log can be written, and then the question comes unasked."""
    with Server(tmp_path, "--scripted-delay", "0.1") as server:
        key = server.add_user()
        created = server.request("POST", "/api/interviews", key=key, body={"role": "Cook"})
        id = str(created.body["id"])
        with open_room(server.room("interview", id, server.token(key))) as socket:
            socket.wait_for_question()
            socket.send(wire.UserMessage(text="I would measure first.", id="mine"))
            socket.wait_for(lambda m: m == wire.Accepted(id="mine"))
            with nothing_fits(server):
                failure = socket.next(wire.Failure)
                assert failure.code == ErrorCode.STORAGE
            assert socket.next_of_kind(wire.MessageKind.QUESTION).text.endswith("?")
        assert server.terminate() == 0


class Mute(Server):
    """Its log is on a disk of its own, which is full."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log_file = Path("/dev/full")

    @property
    def log(self) -> str:
        return ""  # /dev/full reads as zeros without end


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """Interviews begin, go on and are removed as ever."""
    with Mute(tmp_path) as server:
        key = server.add_user()
        created = server.request("POST", "/api/interviews", key=key, body={"role": "Cook"})
        id = str(created.body["id"])
        with open_room(server.room("interview", id, server.token(key))) as socket:
            socket.wait_for_question()
            socket.check_interview_continues()
        assert server.request("DELETE", f"/api/interviews/{id}", key=key).status == 204
        end = time.monotonic() + 30
        while list(server.data_dir.glob("objects/interview/*/*.sqlite")):
            assert time.monotonic() < end, "the file is still there"
            time.sleep(0.05)
        assert server.terminate() == 0
