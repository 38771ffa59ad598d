"""The local server, which runs on the loopback interface while prep runs. It fetches better
models than the starter models in the background.

Its data is kept, so that interviews can be resumed. It has no rate limit, because it serves only
the owner of the machine. The first `prep` starts the server and later ones use the same one; it
ends by itself once no `prep` holds a lease.
"""

import asyncio
import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from prepcli import paths
from prepcli.errors import LocalServerFailed, ServerUnreachable
from prepcli.local_server.commands import command, question_bank_arguments, serve_arguments
from prepcli.local_server.failures import cannot_use, command_failure, last_lines
from prepcli.local_server.locks import hold_start_lock, take_lease
from prepcli.local_server.stale_server import is_server, stop_stale_server

if TYPE_CHECKING:  # imports an HTTP client, which reading the stored interviews does not need
    from prepcli.client.rest import RestClient

__all__ = ["USER", "LocalServer", "ModelsMissing"]

USER = "local"
"""Name of the local server's only user."""

READY_SECONDS = 60.0
"""Maximum number of seconds from starting the server until it accepts connections."""

MODELS_SECONDS = 600.0
"""Maximum number of seconds until the models are loaded; a large model on a slow disk takes
minutes."""

STOP_SECONDS = 10.0
"""Seconds that a stopping server may take to end before it is killed."""

POLL_SECONDS = 0.1
"""Seconds between two checks of the server's state."""

START_BYTES = 1 << 20
"""Free space in bytes that the server needs on its disk in order to start."""

RESTARTS = 3
"""Maximum number of restarts within `RESTART_SECONDS`."""

RESTART_SECONDS = 60.0

EXIT_MODEL_MISSING = 3
"""Exit code of a server that does not start because a model is missing or incomplete."""

_MODEL_NAMES = {"interviewer": "the language model", "transcriber": "the speech model"}
"""Names of the models in messages to the user, by the name of their job in the health check."""


class ModelsMissing(LocalServerFailed):
    """The local server did not start because a model is not installed."""


class _ReadyFile(Struct, frozen=True):
    """Content of the JSON file that the server writes once it accepts connections."""

    url: str
    pid: int
    key: str


class LocalServer:
    """Access to the local server that all `prep` of one user share."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`directory` is the server's data directory, by default `paths.local_server_dir()`."""
        self.directory = directory or paths.local_server_dir()
        self._monotonic = monotonic
        self._lease: int | None = None
        self._ready: _ReadyFile | None = None
        self._restarting = asyncio.Lock()
        self._restarts: deque[float] = deque(maxlen=RESTARTS)
        """Times of the latest restarts."""
        self._failure: LocalServerFailed | None = None
        """Error of the last restart; further restarts need `allow_restart`."""
        self._on_progress: Callable[[str], None] = lambda line: None

    @property
    def url(self) -> str:
        """Address of the running server."""
        return "" if self._ready is None else self._ready.url

    @property
    def access_key(self) -> str:
        """Access key of the running server's only user; each start issues a new key."""
        return "" if self._ready is None else self._ready.key

    @property
    def log_file(self) -> Path:
        """Log file of the server's current or last run."""
        return self.directory / "server.log"

    # --- Start and end ------------------------------------------------------------------------

    async def start(self, on_progress: Callable[[str], None]) -> None:
        """Find the running server or start it, and return once it accepts connections. Raises
        LocalServerFailed if the server does not start, and ModelsMissing if it lacks a model."""
        self._on_progress = on_progress
        try:
            async with self.exclusive() as running:
                if not running:
                    on_progress("Starting the local server")
                    await self._launch()
        except BaseException:
            await self.stop()
            raise

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[bool]:
        """Keep other `prep` from starting the server during the `async with` block. Yield True if
        the server is running.

        If it is not, no process is using the data directory. The lease is kept after the block,
        until `stop`. Raises LocalServerFailed if the data directory cannot be used.
        """
        async with hold_start_lock(self.directory, READY_SECONDS):
            if self._lease is None:
                self._lease = await take_lease(self.directory, STOP_SECONDS)
            self._ready = await asyncio.to_thread(self._find_ready_server)
            if self._ready is None:
                # Its prep was killed during the start, or it does not end.
                await asyncio.to_thread(stop_stale_server, self._pid_file, str(self.directory))
            if self._lease is None:
                self._lease = await take_lease(self.directory, STOP_SECONDS)
            if self._lease is None:
                raise self._failed("The last local server does not end")
            yield self._ready is not None

    async def ensure_running(self) -> bool:
        """Restart the server if it has ended, and return True if its address has changed.

        Raises LocalServerFailed if the server does not start, or has ended `RESTARTS` times within
        a minute; then also in all later calls, until `allow_restart`.
        """
        async with self._restarting:
            if self._failure is not None:
                raise self._failure
            before = self._ready
            if before is not None and await asyncio.to_thread(self._is_running, before.pid):
                return False
            try:
                self._count_restart()
                self._on_progress("The interviewer stopped. Restarting it; your answers are safe")
                await self.start(self._on_progress)
            except LocalServerFailed as error:
                self._failure = error
                raise
            return True

    def allow_restart(self) -> None:
        """Let the next `ensure_running` restart the server although the last restart has failed."""
        self._failure = None
        self._restarts.clear()

    async def wait_for_models(self, rest: "RestClient", on_progress: Callable[[str], None]) -> None:
        """Wait until all models are loaded.

        Raises LocalServerFailed if a model cannot be loaded, loading takes too long or the server
        ends, and ServerUnreachable if the server does not respond.
        """
        last_line = ""
        deadline = self._monotonic() + MODELS_SECONDS
        while True:
            try:
                health = await rest.get_health()
            except ServerUnreachable:
                if self._ready is None or not self._is_running(self._ready.pid):
                    raise self._failed("The local server has stopped unexpectedly") from None
                raise
            if health.status == "ok":
                return
            states = {_MODEL_NAMES.get(job, job): state for job, state in health.models.items()}
            failed = [name for name, state in states.items() if state == "failed"]
            if failed:
                raise self._failed(f"Could not load {' and '.join(failed)}")
            loading = [name for name, state in states.items() if state != "ready"]
            line = f"Loading {' and '.join(loading) or 'the models'}"
            if line != last_line:
                on_progress(line)
                last_line = line
            if self._monotonic() > deadline:
                raise self._failed(f"The models did not load within {MODELS_SECONDS:g} seconds")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """Give the lease back. The server ends by itself unless another `prep` is using it."""
        lease, self._lease = self._lease, None
        if lease is not None:
            os.close(lease)

    # --- The server's process -----------------------------------------------------------------

    @property
    def _ready_file(self) -> Path:
        return self.directory / "ready.json"

    @property
    def _pid_file(self) -> Path:
        """File to which every server writes its process id when it locks the data directory."""
        return self.directory / "server.lock"

    def _is_running(self, pid: int) -> bool:
        return is_server(pid, str(self.directory))

    def _find_ready_server(self) -> _ReadyFile | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            ready = msgspec.json.decode(self._ready_file.read_bytes(), type=_ReadyFile)
            return ready if self._is_running(ready.pid) else None
        return None

    async def _launch(self) -> None:
        """Start the server process and wait for its ready file. Raises LocalServerFailed if the
        process ends first or does not write the file in time."""
        process = self._spawn()
        deadline = self._monotonic() + READY_SECONDS
        while (ready := self._find_ready_server()) is None or ready.pid != process.pid:
            if process.poll() is not None:
                kind = ModelsMissing if process.poll() == EXIT_MODEL_MISSING else LocalServerFailed
                problem = "The local server did not start"
                raise kind(str(command_failure(problem, self._log_text(), process.poll())))
            if self._monotonic() > deadline:
                process.kill()
                raise self._failed(
                    f"The local server did not start within {READY_SECONDS:g} seconds"
                )
            await asyncio.sleep(POLL_SECONDS)
        self._ready = ready

    def _spawn(self) -> "subprocess.Popen[bytes]":
        arguments = ["--host", "127.0.0.1", "--port", "0", "--data-dir", str(self.directory)]
        arguments += ["--ready-file", str(self._ready_file), "--issue-key", USER]
        arguments += ["--lease-file", str(self.directory / "lease.lock"), "--rate-limit", "0"]
        arguments += [*question_bank_arguments(), *serve_arguments()]
        try:
            # On a full disk, the server could not even log why it does not start.
            with tempfile.TemporaryFile(dir=self.directory) as file:
                file.write(bytes(START_BYTES))
                file.flush()
            with self.log_file.open("wb") as log:
                # In a session of its own: neither Ctrl-C nor the end of the terminal reaches it.
                process = subprocess.Popen(
                    command("serve", *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise cannot_use(error.filename or self.log_file, error) from None
        # Reap the process whenever it ends.
        threading.Thread(target=process.wait, daemon=True).start()
        return process

    def _count_restart(self) -> None:
        now = self._monotonic()
        if len(self._restarts) == RESTARTS and now - self._restarts[0] < RESTART_SECONDS:
            raise self._failed(f"The local server has stopped {RESTARTS + 1} times within a minute")
        self._restarts.append(now)

    def _failed(self, problem: str) -> LocalServerFailed:
        return LocalServerFailed(
            f"{problem}. Last lines of {self.log_file}:\n{last_lines(self._log_text())}"
        )

    def _log_text(self) -> str:
        try:
            return self.log_file.read_text("utf-8", "replace")
        except OSError:
            return ""
