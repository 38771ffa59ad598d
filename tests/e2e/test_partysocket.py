"""The npm package `partysocket`, as it comes, is a client of prep's rooms.

It runs in Node, next to `partysocket/visit.js`. Where Node, npm or the package cannot be had, the
tests are skipped and say why.
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

from prepserver.wire import codec
from prepserver.wire import protocol as wire
from tests.e2e.test_server import interview
from tests.support.server import Server

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent / "partysocket"
PATIENCE = 30.0
"""Real seconds."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder where the package is installed; kept between runs where pytest keeps things."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are needed to run the npm package partysocket")
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


class Visit:
    """A partysocket in a room."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: SimpleQueue[str] = SimpleQueue()
        self.seen: list[dict[str, Any]] = []

    def listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def send(self, message: dict[str, Any] | wire.ClientMessage) -> None:
        assert self._process.stdin is not None
        text = json.dumps(message) if isinstance(message, dict) else codec.encode(message).decode()
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def until(self, **wanted: Any) -> dict[str, Any]:
        """The next line that has all of this."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                raise AssertionError(f"no {wanted}; seen: {self.seen[-10:]}") from None
            event: dict[str, Any] = json.loads(line)
            self.seen.append(event)
            if wanted.items() <= event.items():
                return event


@contextmanager
def visit(package: Path, server: Server, key: str, room: str) -> Iterator[Visit]:
    process = subprocess.Popen(
        ["node", "visit.js"],
        cwd=package,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    one = Visit(process)
    listener = threading.Thread(target=one.listen)
    listener.start()
    try:
        one.send({"host": server.url.removeprefix("http://"), "room": room, "key": key})
        yield one
    finally:
        process.kill()
        process.wait()
        listener.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.mark.parametrize("cut", ["kill", "restart"])
def test_partysocket_is_cut_and_comes_back(package: Path, tmp_path: Path, cut: str) -> None:
    """It receives the snapshot, answers, is cut off by kill -9 or by a restart, comes back as the
    same client with what it said meanwhile, and has lost nothing."""
    with Server(tmp_path) as server:
        key = server.add_user()
        id = interview(server, key)
        with visit(package, server, key, id) as party:
            opened = party.until(event="open")
            hello = party.until(type="hello")
            assert (hello["party"], hello["room"]) == ("interview", id)
            assert hello["connection"] == opened["id"]
            snapshot = party.until(type="snapshot")
            assert snapshot["interview"]["id"] == id
            if not snapshot["messages"] or snapshot["state"] != "idle":
                party.until(type="interview.state", state="idle")
            party.send(wire.UserMessage(text="I would measure first.", id="a1"))
            party.until(type="accepted", id="a1")
            party.until(type="interview.state", state="idle")
            if cut == "kill":
                server.kill()
            else:
                assert server.terminate(limit=10) == 0
            closed = party.until(event="close")
            assert closed["code"] == (1006 if cut == "kill" else wire.CLOSE_RESTART)
            # Said while nobody listens, and what the crash may have swallowed once more.
            party.send(wire.UserMessage(text="I would measure first.", id="a1"))
            party.send(wire.UserMessage(text="Then I would think.", id="a2"))
            server.start()
            assert party.until(event="open")["id"] == opened["id"]
            snapshot = party.until(type="snapshot")
            kinds = [message["kind"] for message in snapshot["messages"]]
            assert kinds == ["question", "answer", "question"]
            party.until(type="accepted", id="a1")
            party.until(type="accepted", id="a2")
            party.until(type="interview.state", state="idle")
        said = server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"]
        answers = [message["text"] for message in said if message["kind"] == "answer"]
        assert answers == ["I would measure first.", "Then I would think."]
        assert len(said) == 5
