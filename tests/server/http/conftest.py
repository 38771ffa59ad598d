"""One real server for all tests of the edge, with two users who share nothing."""

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
    """An access key."""
    return server.add_user("ada")


@pytest.fixture(scope="session")
def bob(server: Server) -> str:
    """Another user's access key."""
    return server.add_user("bob")


@pytest.fixture
def interview(server: Server, ada: str) -> str:
    """The id of a new interview of Ada's."""
    return str(server.request("POST", "/api/interviews", key=ada, body={}).body["id"])


@pytest.fixture
def room(server: Server, ada: str, interview: str) -> Iterator[RoomClient]:
    """Ada in her new interview, the first question asked."""
    with open_room(server.room("interview", interview, server.token(ada))) as socket:
        socket.wait_for_question()
        yield socket
