"""One real server for all tests of the HTTP package, with two unrelated users."""

from collections.abc import Iterator

import pytest

from tests.support.room_client import RoomClient, open_room
from tests.support.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("edge"), "--rate-limit", "1000") as server:
        yield server


@pytest.fixture(scope="session")
def ada(server: Server) -> str:
    """Return the access key of the user Ada."""
    return server.add_user("ada")


@pytest.fixture(scope="session")
def bob(server: Server) -> str:
    """Return the access key of the user Bob, who owns none of Ada's interviews."""
    return server.add_user("bob")


@pytest.fixture
def interview(server: Server, ada: str) -> str:
    """Return the id of a new interview that belongs to Ada."""
    return str(server.request("POST", "/api/interviews", key=ada, body={}).body["id"])


@pytest.fixture
def room(server: Server, ada: str, interview: str) -> Iterator[RoomClient]:
    """Yield a client in Ada's new interview once the first question has been asked."""
    with open_room(server.room("interview", interview, server.token(ada))) as socket:
        socket.wait_for_question()
        yield socket
