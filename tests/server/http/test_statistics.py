"""Statistics and metrics of a real server, and the users who may read them."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from prepserver.accounts.users import Users
from prepserver.clock import SystemClock
from prepserver.wire import client_messages
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind
from tests.support.room_client import open_room
from tests.support.server import Server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Yield a separate server, so that its statistics contain only the calls made by this module's
    tests."""
    with Server(tmp_path_factory.mktemp("watched")) as server:
        yield server


@pytest.fixture(scope="module")
def eve(watched: Server) -> str:
    """Return the access key of an ordinary user for whom the model has written one question."""
    key = watched.add_user("eve")
    interview = watched.request("POST", "/api/interviews", key=key, body={"questions": 7}).body[
        "id"
    ]
    with open_room(watched.room("interview", interview, watched.token(key))) as socket:
        socket.wait_for_question()
        socket.send(client_messages.UserMessage(text="I wrote a service in Python."))
        socket.next_of_kind(MessageKind.QUESTION)
    return key


@pytest.fixture(scope="module")
def root(watched: Server) -> str:
    """Return the access key of an administrator."""
    users = Users(watched.data_dir / "users.sqlite", SystemClock())
    try:
        return users.add("root", admin=True).key
    finally:
        users.close()


def text(server: Server, path: str, key: str) -> tuple[int, str]:
    """Request `path` with an access key, and return the status and text of the response."""
    request = urllib.request.Request(f"{server.url}{path}")
    request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status, response.read().decode()


@pytest.mark.parametrize("path", ["/api/gateway/stats", "/metrics"])
def test_statistics_and_metrics_need_an_administrator(watched: Server, eve: str, path: str) -> None:
    """Anonymous callers receive 401 for statistics and metrics, and ordinary users receive 403."""
    assert watched.request("GET", path).status == 401
    refused = watched.request("GET", path, key=eve)
    assert (refused.status, refused.body["error"]["code"]) == (403, ErrorCode.NOT_AN_ADMINISTRATOR)
    token = watched.token(eve)
    assert watched.request("GET", path, key=token).status == 403


def test_an_administrator_reads_statistics(watched: Server, eve: str, root: str) -> None:
    """An administrator can read statistics on the calls of all users and the load of each model."""
    stats = watched.request("GET", "/api/gateway/stats?since=1h", key=root)
    assert stats.status == 200
    lines = {line["purpose"]: line for line in stats.body["lines"]}
    assert lines["question"]["calls"] >= 1
    assert lines["question"]["errors"] == 0
    assert lines["question"]["completion_tokens"] > 0
    assert [(m["job"], m["state"], m["waiting"]) for m in stats.body["models"]] == [
        ("interviewer", "ready", 0),
        ("transcriber", "ready", 0),
    ]
    wrong = watched.request("GET", "/api/gateway/stats?since=always", key=root)
    assert (wrong.status, wrong.body["error"]["code"]) == (400, ErrorCode.BAD_SPAN)


def test_an_administrator_cannot_read_interviews(watched: Server, eve: str, root: str) -> None:
    """An administrator cannot read the interviews of other users."""
    interviews = watched.request("GET", "/api/interviews", key=eve).body["interviews"]
    assert len(interviews) == 1
    path = f"/api/interviews/{interviews[0]['id']}"
    assert watched.request("GET", path, key=root).status == 404


def test_metrics_contain_no_names(watched: Server, eve: str, root: str) -> None:
    """Metrics report models, calls, objects and connections, but no user names or interview ids."""
    status, page = text(watched, "/metrics", root)
    assert status == 200
    assert 'prep_model_ready{job="interviewer",model="scripted"} 1.0' in page
    assert 'outcome="ok",purpose="question"' in page
    assert "prep_objects_live " in page
    assert "prep_connections " in page
    interviews = watched.request("GET", "/api/interviews", key=eve).body["interviews"]
    assert interviews[0]["id"] not in page
    assert "eve" not in page


def test_stats_while_the_server_runs(watched: Server, eve: str) -> None:
    """`prep-server stats` reads the call log while the server is running."""
    lines: list[dict[str, Any]] = []
    while not any(line["purpose"] == "question" for line in lines):
        command = [sys.executable, "-m", "prepserver", "stats", "--json", "--since", "1h"]
        done = subprocess.run(
            [*command, "--data-dir", str(watched.data_dir)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        lines = json.loads(done.stdout)["lines"]
        time.sleep(0.1)


@pytest.mark.parametrize(("setting", "status"), [("open", 200), ("off", 404)])
def test_metrics_can_be_open_or_off(tmp_path: Path, setting: str, status: int) -> None:
    """The setting `metrics` can open the metrics to all callers or disable them."""
    file = tmp_path / "prep.toml"
    file.write_text(f'metrics = "{setting}"\n')
    with Server(tmp_path, "--config", str(file)) as server:
        if status == 200:
            assert "prep_model_ready" in text(server, "/metrics", "")[1]
        else:
            assert server.request("GET", "/metrics").status == status
