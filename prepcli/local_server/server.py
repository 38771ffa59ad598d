"""The local server, which runs on the loopback interface with the starter models while prep runs.

Its data is kept, so that interviews can be resumed. It has no rate limit, because it serves only
the owner of the machine.
"""

import asyncio
import atexit
import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from prepcli import paths
from prepcli.client.rest import RestClient
from prepcli.errors import LocalServerFailed, ServerUnreachable
from prepcli.files import write_atomically
from prepcli.local_server.stale_server import stop_stale_server

__all__ = ["LocalServer"]

ARGUMENTS_VARIABLE = "PREP_LOCAL_SERVER_ARGS"
"""Name of the environment variable with additional arguments for the server, such as `--model
PATH`."""

READY_SECONDS = 60.0
"""Maximum number of seconds from starting the server until it accepts connections."""

MODELS_SECONDS = 600.0
"""Maximum number of seconds until the models are loaded; a large model on a slow disk takes
minutes."""

STOP_SECONDS = 10.0
"""Maximum number of seconds between SIGTERM and SIGKILL."""

POLL_SECONDS = 0.1
"""Seconds between two checks of the server's state."""

_MODEL_NAMES = {"interviewer": "the language model", "transcriber": "the speech model"}
"""Names of the models in messages to the user, by the name of their job in the health check."""


class _ReadyFile(Struct, frozen=True):
    """Content of the JSON file that the server writes once it accepts connections."""

    url: str
    pid: int
    version: str


class _NewUser(Struct, frozen=True):
    """JSON output of `prep-server users add`."""

    key: str


class LocalServer:
    """Local server that runs as a child process of prep."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` is the server's data directory, by default `paths.local_server_dir()`."""
        self._directory = directory or paths.local_server_dir()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self.url = ""
        """Address of the running server."""
        self.access_key = ""
        """Access key of the running server's only user; each start issues a new key."""

    @property
    def log_file(self) -> Path:
        """Log file of the server's current or last run."""
        return self._directory / "server.log"

    @property
    def _pid_file(self) -> Path:
        return self._directory / "server.pid"

    async def start(self, on_progress: Callable[[str], None]) -> None:
        """Start the server and return once it accepts connections. Raises LocalServerFailed if the
        server does not start."""
        try:
            on_progress("Starting the local server")
            self._take_lock()
            # Under the lock, a server that is still running is stale: its prep has ended.
            await asyncio.to_thread(stop_stale_server, self._pid_file, str(self._directory))
            self.access_key = await self._create_access_key()
            with tempfile.TemporaryDirectory(prefix="prep-") as folder:
                await self._launch(Path(folder) / "ready.json")
        except BaseException:
            await self.stop()
            raise

    async def wait_for_models(self, rest: RestClient, on_progress: Callable[[str], None]) -> None:
        """Wait until all models are loaded.

        Raises LocalServerFailed if a model cannot be loaded, loading takes too long or the server
        ends, and ServerUnreachable if the server does not respond.
        """
        last_line = ""
        deadline = time.monotonic() + MODELS_SECONDS
        while True:
            self.require_running()
            try:
                health = await rest.get_health()
            except ServerUnreachable:
                self.require_running()
                raise
            if health.status == "ok":
                return
            states = {_MODEL_NAMES.get(job, job): state for job, state in health.models.items()}
            failed = [name for name, state in states.items() if state == "failed"]
            if failed:
                raise self._failure(f"Could not load {' and '.join(failed)}")
            loading = [name for name, state in states.items() if state != "ready"]
            line = f"Loading {' and '.join(loading) or 'the models'}"
            if line != last_line:
                on_progress(line)
                last_line = line
            if time.monotonic() > deadline:
                raise self._failure(f"The models did not load within {MODELS_SECONDS:g} seconds")
            await asyncio.sleep(POLL_SECONDS)

    def require_running(self) -> None:
        """Raise LocalServerFailed if the server has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise self._failure("The local server has stopped unexpectedly")

    async def stop(self) -> None:
        """Send SIGTERM to the server, and after at most 10 s SIGKILL to the rest of its process
        group."""
        await asyncio.to_thread(self._terminate)
        atexit.unregister(self._terminate)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- Start --------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        """Lock the data directory, because starting the server replaces the access key, which
        another prep may be using.

        Raises LocalServerFailed if the directory is locked or cannot be used.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self._directory / "client.lock").open("a+")
        except OSError as error:
            raise LocalServerFailed(
                f"Cannot use the data directory {self._directory}: {error.strerror}. Change its "
                "permissions, or set PREP_DATA_DIR to another directory."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise LocalServerFailed(
                f"Another prep (process {owner}) is using the local server. Quit that prep first."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    async def _create_access_key(self) -> str:
        command = _command("users", "add", "local", "--replace", "--json", "--data-dir")
        process = await asyncio.create_subprocess_exec(
            *command,
            str(self._directory),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
        )
        try:
            output, errors = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        if process.returncode == 0:
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(output, type=_NewUser).key
        raise _start_failure(errors.decode("utf-8", "replace"), process.returncode)

    async def _launch(self, ready_file: Path) -> None:
        """Start the server process and wait for its ready file. Raises LocalServerFailed if the
        process ends first or does not write the file in time."""
        process = self._spawn(ready_file)
        deadline = time.monotonic() + READY_SECONDS
        while (ready := _read_ready(ready_file)) is None:
            if process.poll() is not None:
                raise _start_failure(self._log_text(), process.returncode)
            if time.monotonic() > deadline:
                raise self._failure(
                    f"The local server did not start within {READY_SECONDS:g} seconds"
                )
            await asyncio.sleep(POLL_SECONDS)
        self.url = ready.url

    def _spawn(self, ready_file: Path) -> "subprocess.Popen[bytes]":
        arguments = ["--host", "127.0.0.1", "--port", "0", "--data-dir", str(self._directory)]
        arguments += ["--ready-file", str(ready_file), "--rate-limit", "0"]
        arguments += shlex.split(os.environ.get(ARGUMENTS_VARIABLE, ""))
        with self.log_file.open("wb") as log:
            # In its own process group: Ctrl-C in the terminal must reach only prep.
            self._process = subprocess.Popen(
                _command("serve", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        write_atomically(self._pid_file, str(self._process.pid).encode())
        # If prep exits without `stop`, the server must not outlive it.
        atexit.register(self._terminate)
        return self._process

    def _terminate(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _terminate(process)
            self._pid_file.unlink(missing_ok=True)

    def _failure(self, problem: str) -> LocalServerFailed:
        return LocalServerFailed(
            f"{problem}. Last lines of {self.log_file}:\n{_last_lines(self._log_text())}"
        )

    def _log_text(self) -> str:
        try:
            return self.log_file.read_text("utf-8", "replace")
        except OSError:
            return ""


def _read_ready(file: Path) -> _ReadyFile | None:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(file.read_bytes(), type=_ReadyFile)
    return None


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prepserver", *arguments]


def _start_failure(output: str, code: int | None) -> LocalServerFailed:
    # A missing module of prepserver itself is a broken installation: report its traceback.
    if re.search(r"No module named (?!'?prepserver\.)", output):
        return LocalServerFailed(
            "The local server needs packages that are not installed. Install them with "
            "pip install 'prep-interview[server]', or name a server with --server URL."
        )
    return LocalServerFailed(
        f"The local server did not start (exit code {code}). Last lines of its output:\n"
        f"{_last_lines(output) or '  (none)'}"
    )


def _last_lines(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])


def _terminate(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM to the process, then SIGKILL to the processes that are left in its group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # The engines are processes of the same group, which can be empty by now.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
