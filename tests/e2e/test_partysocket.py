"""Unmodified npm package `partysocket` as a client of prep's rooms.

The package runs in Node, in `partysocket/visit.js`. Without Node, npm or the package, the tests are
skipped.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from tests.e2e.test_server import create_interview
from tests.support.server import Server

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent / "partysocket"
TIMEOUT = 30.0
"""Maximum number of real seconds to wait for a message or an event."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return a folder in which partysocket is installed: a folder in pytest's cache, or a temporary
    folder if there is no cache. A missing or outdated package is installed first."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("the npm package partysocket requires Node.js and npm")
    cache = getattr(request.config, "cache", None)
    folder: Path = cache.mkdir("partysocket") if cache else tmp_path_factory.mktemp("partysocket")
    for file in ("package.json", "package-lock.json", "visit.js"):
        shutil.copy(HERE / file, folder)
    wanted = (folder / "package-lock.json").read_bytes()
    installed = folder / "installed.json"
    if not installed.exists() or installed.read_bytes() != wanted:
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm could not fetch partysocket within two minutes")
        if done.returncode != 0:
            pytest.skip(f"npm could not fetch partysocket: {done.stderr.strip()[-300:]}")
        installed.write_bytes(wanted)
    return folder


class PartySocket:
    """Node process in which partysocket is connected to a room."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: SimpleQueue[str] = SimpleQueue()
        self.events: list[dict[str, Any]] = []

    def read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def send(self, message: dict[str, Any] | client_messages.ClientMessage) -> None:
        assert self._process.stdin is not None
        text = json.dumps(message) if isinstance(message, dict) else codec.encode(message).decode()
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def wait_for(self, **fields: Any) -> dict[str, Any]:
        """Return the next message or event that contains all of the given fields and values."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"no {fields} among {self.events[-10:]}") from None
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if fields.items() <= event.items():
                return event


@contextmanager
def connect(package: Path, server: Server, key: str, room: str) -> Iterator[PartySocket]:
    process = subprocess.Popen(
        ["node", "visit.js"],
        cwd=package,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    client = PartySocket(process)
    reader = threading.Thread(target=client.read_lines)
    reader.start()
    try:
        client.send({"host": server.url.removeprefix("http://"), "room": room, "key": key})
        yield client
    finally:
        process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.mark.parametrize("cut", ["kill", "restart"])
def test_partysocket_reconnects_and_resends(package: Path, tmp_path: Path, cut: str) -> None:
    """After the server is killed or shut down and then started again, partysocket reconnects with
    the same connection id, and each message sent during the interruption is stored once."""
    with Server(tmp_path) as server:
        key = server.add_user()
        id = create_interview(server, key)
        with connect(package, server, key, id) as client:
            opened = client.wait_for(event="open")
            hello = client.wait_for(type="hello")
            assert (hello["party"], hello["room"]) == ("interview", id)
            assert hello["connection"] == opened["id"]
            snapshot = client.wait_for(type="snapshot")
            assert snapshot["interview"]["id"] == id
            if not snapshot["messages"] or snapshot["state"] != "idle":
                client.wait_for(type="interview.state", state="idle")
            client.send(client_messages.UserMessage(text="I would measure first.", id="a1"))
            client.wait_for(type="accepted", id="a1")
            client.wait_for(type="interview.state", state="idle")
            if cut == "kill":
                server.kill()
            else:
                assert server.terminate(limit=10) == 0
            closed = client.wait_for(event="close")
            assert closed["code"] == (1006 if cut == "kill" else wire.CLOSE_RESTART)
            # Sent while disconnected: a message that the crash may have lost, and a new one.
            client.send(client_messages.UserMessage(text="I would measure first.", id="a1"))
            client.send(client_messages.UserMessage(text="Then I would think.", id="a2"))
            server.start()
            assert client.wait_for(event="open")["id"] == opened["id"]
            snapshot = client.wait_for(type="snapshot")
            kinds = [message["kind"] for message in snapshot["messages"]]
            assert kinds == ["question", "answer", "question"]
            client.wait_for(type="accepted", id="a1")
            client.wait_for(type="accepted", id="a2")
            client.wait_for(type="interview.state", state="idle")
        messages = server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"]
        answers = [message["text"] for message in messages if message["kind"] == "answer"]
        assert answers == ["I would measure first.", "Then I would think."]
        assert len(messages) == 5
