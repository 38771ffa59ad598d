"""Our server under a benchmark, and the rooms in it."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.clients import Client, Rest, connect
from tests.bench.processes import cores, files, pin
from tests.support.server import Server

__all__ = ["House", "Room", "serving"]


class Room:
    """An interview with one client in it."""

    def __init__(self, port: int, target: str, client: Client) -> None:
        self.target = target
        self.client = client
        self._port = port

    async def join(self) -> Client:
        """One more client."""
        return await connect(self._port, self.target)

    async def asked(self) -> None:
        """Wait until the first question is asked and nothing is going on."""
        _, snapshot = await self.client.next("snapshot")
        if b'"state":"idle"' not in snapshot or b'"kind":"question"' not in snapshot:
            await self.client.next("interview.message")
            await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is going on any more."""
        while b"idle" not in (await self.client.next("interview.state"))[1]:
            pass


class House:
    """A server with one user."""

    def __init__(self, server: Server) -> None:
        self.pid = server.pid
        self.port = server.port
        self.key = server.add_user()
        self._token = server.token(self.key)
        self._token_made = time.monotonic()
        self._server = server
        self._rest = Rest(server.port, self.key)

    @property
    def token(self) -> str:
        if time.monotonic() - self._token_made > 120:
            self._token, self._token_made = self._server.token(self.key), time.monotonic()
        return self._token

    @property
    def databases(self) -> list[str]:
        """The files of objects that the process holds open."""
        return [name for name in files(self.pid) if "/objects/" in name]

    async def interview(self, rest: Rest | None = None, **spec: object) -> Room:
        """A new interview, and a client in it."""
        made = await (rest or self._rest).post("/api/interviews", spec)
        target = f"/parties/interview/{made['id']}?token={self.token}"
        return Room(self.port, target, await connect(self.port, target))


@contextlib.contextmanager
def serving(folder: Path, **settings: object) -> Iterator[House]:
    """Our server with these settings, on a core of its own."""
    folder.mkdir(parents=True)
    file = folder / "server.toml"
    # As many streams as there are rooms: a scripted model takes no turns.
    wanted = {"rate_limit": 1_000_000, "parallel": 1_000, "log_level": "warning", **settings}
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in wanted.items()))
    with Server(folder, "--config", str(file)) as server:
        pin(server.pid, cores()[0])
        yield House(server)
