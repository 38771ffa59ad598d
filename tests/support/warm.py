"""Servers without the wait for imports: each is forked from a process that has loaded everything.

From the fork on it is `prep-server serve`, with a log, a port and data of its own, and it is killed
like any other process. A restart costs a tenth of a second, so that a test can afford hundreds.
"""

import multiprocessing
import os
import subprocess
from pathlib import Path

from prepserver.cli import cli
from tests.support.server import Process, Server

__all__ = ["WarmServer"]

PRELOADED = [
    "prepserver.serve",
    __name__,
    # What Litestar and uvicorn import when they are asked to start.
    "litestar.plugins.pydantic",
    "litestar.plugins.attrs",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.auto",
    "litestar.exceptions.responses",
    "litestar.middleware._internal.exceptions.middleware",
]
"""Those that are not installed are skipped."""


class WarmServer(Server):
    """Like Server, but forked instead of executed."""

    def launch(self, *args: str) -> Process:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        return _Forked(context.Process(target=_serve, args=(self.log_file, self.flags(*args))))


class _Forked:
    """A process of multiprocessing as one of subprocess."""

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        process.start()
        assert process.pid is not None
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("serve", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


def _serve(log: Path, flags: list[str]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    cli(flags, prog_name="prep-server")
