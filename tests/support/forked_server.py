"""Servers that start without imports, because each server is forked from a preloaded process.

The forked process runs `prep-server serve` with its own log, port and data directory, and can be
killed like any other process. A restart takes a tenth of a second, so that a test can perform
hundreds of restarts.
"""

import multiprocessing
import os
import subprocess
from pathlib import Path

from prepserver.cli import cli
from tests.support.server import Process, Server

__all__ = ["ForkedServer"]

PRELOADED = [
    "prepserver.serve",
    __name__,
    # Litestar and uvicorn import these when they start.
    "litestar.plugins.pydantic",
    "litestar.plugins.attrs",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.auto",
    "litestar.exceptions.responses",
    "litestar.middleware._internal.exceptions.middleware",
]
"""Modules that the fork server imports. Missing modules are skipped."""


class ForkedServer(Server):
    """Server whose process is forked from a preloaded process instead of being executed."""

    def launch(self, *args: str) -> Process:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        return _ForkedProcess(
            context.Process(target=_serve, args=(self.log_file, self.flags(*args)))
        )


class _ForkedProcess:
    """Adapter that gives a `multiprocessing` process the interface of `Process`."""

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
