"""Server that a benchmark measures, and interviews on that server."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.clients import CountingClient, RestClient, connect
from tests.bench.processes import benchmark_cores, open_files, pin_to_core
from tests.support.server import Server

__all__ = ["BenchRoom", "BenchServer", "running_server"]

TOKEN_SECONDS = 120
"""Age in seconds at which a token is renewed, well before its expiry."""


class BenchRoom:
    """Interview with one connected client."""

    def __init__(self, port: int, target: str, client: CountingClient) -> None:
        self.target = target
        self.client = client
        self._port = port

    async def join(self) -> CountingClient:
        """Connect another client to the interview, and return the client."""
        return await connect(self._port, self.target)

    async def wait_for_question(self) -> None:
        """Wait until the first question is asked and the interview is idle."""
        _, snapshot = await self.client.next("snapshot")
        if b'"state":"idle"' not in snapshot or b'"kind":"question"' not in snapshot:
            await self.client.next("interview.message")
            await self.wait_until_idle()

    async def wait_until_idle(self) -> None:
        while b"idle" not in (await self.client.next("interview.state"))[1]:
            pass


class BenchServer:
    """Running server with one user."""

    def __init__(self, server: Server) -> None:
        self.pid = server.pid
        self.port = server.port
        self.key = server.add_user()
        self._token = server.token(self.key)
        self._token_created = time.monotonic()
        self._server = server
        self._rest = RestClient(server.port, self.key)

    @property
    def token(self) -> str:
        if time.monotonic() - self._token_created > TOKEN_SECONDS:
            self._token, self._token_created = self._server.token(self.key), time.monotonic()
        return self._token

    @property
    def open_databases(self) -> list[str]:
        """Paths of the object databases that the server process holds open."""
        return [name for name in open_files(self.pid) if "/objects/" in name]

    async def create_interview(self, rest: RestClient | None = None, **spec: object) -> BenchRoom:
        """Create an interview, connect a client, and return the room."""
        created = await (rest or self._rest).post("/api/interviews", spec)
        target = f"/parties/interview/{created['id']}?token={self.token}"
        return BenchRoom(self.port, target, await connect(self.port, target))


@contextlib.contextmanager
def running_server(folder: Path, **settings: object) -> Iterator[BenchServer]:
    """Run a server with `settings`, pinned to the first available core."""
    folder.mkdir(parents=True)
    file = folder / "server.toml"
    # The scripted replies of all rooms stream at the same time.
    settings = {"rate_limit": 1_000_000, "parallel": 1_000, "log_level": "warning", **settings}
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    with Server(folder, "--config", str(file)) as server:
        pin_to_core(server.pid, benchmark_cores()[0])
        yield BenchServer(server)
