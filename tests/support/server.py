"""Real server in a process of its own, on loopback, with scripted models."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlencode

import msgspec

from prepserver.accounts.users import Users
from prepserver.clock import SystemClock

__all__ = ["Process", "Reply", "Server"]

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Reply(msgspec.Struct, frozen=True):
    """HTTP response, whatever its status."""

    status: int
    body: Any
    """Decoded JSON; None for an empty body."""
    headers: dict[str, str]


class Process(Protocol):
    """Part of the interface of subprocess.Popen that `Server` uses."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Server:
    """Server process that `with Server(tmp_path) as server:` starts and stops.

    `kill` followed by `start` simulates a crash and a restart with the same data and port.
    """

    def __init__(self, folder: Path, *args: str, module: str = "prepserver") -> None:
        """Create a server with additional flags of `prep-server serve`; `module` runs it."""
        self.data_dir = folder / "server-data"
        self.ready_file = folder / "ready.json"
        self.log_file = folder / "server.log"
        self.url = ""
        self.port = 0
        self._args = args
        self._module = module
        self._process: Process | None = None

    # --- The process --------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self.spawn()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the spawned process accepts connections."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self.ready_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log}")
            time.sleep(0.02)
        ready = json.loads(self.ready_file.read_text())
        assert ready["pid"] == self._process.pid
        self.url = ready["url"]
        self.port = int(self.url.rpartition(":")[2])

    def spawn(self) -> None:
        """Start the server without waiting until it accepts connections."""
        self.ready_file.unlink(missing_ok=True)
        self._process = self.launch(
            "--port", str(self.port), "--ready-file", str(self.ready_file), *self._args
        )

    def launch(self, *args: str) -> Process:
        """Start a process on the server's data directory; the caller must end the process."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREP_SERVER_")}
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self._module, *self.flags(*args)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=inherited,
            )

    def flags(self, *args: str) -> list[str]:
        """Return the command-line arguments of `prep-server`, ending with `args`."""
        return [
            *("serve", "--data-dir", str(self.data_dir)),
            *("--model", "scripted", "--stt-model", "scripted", *args),
        ]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Standard output and standard error of all runs of the server."""
        return self.log_file.read_text("utf-8") if self.log_file.exists() else ""

    def kill(self) -> None:
        """Kill the process with SIGKILL, as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def signal(self) -> None:
        """Send SIGTERM to the process without waiting for the process to end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, limit: float) -> int:
        """Wait at most `limit` seconds for the process to end, and return the exit code."""
        assert self._process is not None
        return self._process.wait(limit)

    def terminate(self, *, limit: float = STOP_SECONDS) -> int:
        """Send SIGTERM and wait until the process has ended; return the exit code."""
        self.signal()
        return self.wait(limit)

    # --- Requests -----------------------------------------------------------------------------

    def add_user(self, name: str = "user") -> str:
        """Add a user and return the user's access key."""
        users = Users(self.data_dir / "users.sqlite", SystemClock())
        try:
            return users.add(name).key
        finally:
            users.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str = "",
        body: Any = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send a request with `body` as JSON, or with `data` unchanged. Return the reply whatever
        its status."""
        if body is not None:
            data = msgspec.json.encode(body)
        request = urllib.request.Request(f"{self.url}{path}", data, headers or {}, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return _reply(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return _reply(error.code, error.read(), error.headers)

    def token(self, key: str) -> str:
        """Return a new token for the user with the access key `key`."""
        return str(self.request("GET", "/auth/token", key=key).body["token"])

    def room(self, party: str, room: str, token: str, **query: str) -> str:
        """Return the WebSocket address of a room, including the token."""
        values = urlencode({"token": token, **query})
        return f"{self.url.replace('http', 'ws', 1)}/parties/{party}/{room}?{values}"


def _reply(status: int, body: bytes, headers: Any) -> Reply:
    decoded = json.loads(body) if body else None
    return Reply(status, decoded, {name.lower(): value for name, value in headers.items()})
