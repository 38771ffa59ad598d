"""A server of one's own: started on loopback for as long as prep runs, with the starter models.

Its data stays, so interviews are found again. It counts no requests: the machine is the
person's own.
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
from prepcli.local_server.stale_server import stop_stale_server

__all__ = ["LocalServer"]

ARGUMENTS = "PREP_LOCAL_SERVER_ARGS"
"""Environment: more arguments for the server, such as `--model PATH`."""

READY_SECONDS = 60.0
"""For the server to listen."""

MODELS_SECONDS = 600.0
"""For the models to load: a large one from a slow disk takes minutes."""

STOP_SECONDS = 10.0
"""For the server to end when asked; then it is killed."""

POLL_SECONDS = 0.1

_JOBS = {"interviewer": "the interviewer", "transcriber": "the transcriber"}


class _Ready(Struct, frozen=True):
    """What the server writes when it accepts connections."""

    url: str
    pid: int
    version: str


class _NewUser(Struct, frozen=True):
    """What the server prints for a new access key."""

    key: str


class LocalServer:
    """A child process that serves this person alone. `start` it, `stop` it."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` is where its data is kept; by default the same at every start."""
        self._directory = directory or paths.local_server_dir()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self.url = ""
        self.access_key = ""

    @property
    def log(self) -> Path:
        """What the server has written since it started."""
        return self._directory / "server.log"

    @property
    def _pid_file(self) -> Path:
        return self._directory / "server.pid"

    async def start(self, on_progress: Callable[[str], None]) -> None:
        """Return when it accepts connections. Raises PrivateServerFailed."""
        try:
            on_progress("Starting a private server")
            self._take_lock()
            # Whoever has the lock is alone here, so a server that still runs is nobody's.
            await asyncio.to_thread(stop_stale_server, self._pid_file, str(self._directory))
            self.access_key = await self._new_key()
            with tempfile.TemporaryDirectory(prefix="prep-") as folder:
                await self._launch(Path(folder) / "ready.json")
        except BaseException:
            await self.stop()
            raise

    async def wait_for_models(self, rest: RestClient, on_progress: Callable[[str], None]) -> None:
        """Return when it can interview. Raises PrivateServerFailed."""
        told = ""
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
            failed = [_JOBS.get(job, job) for job, how in health.models.items() if how == "failed"]
            if failed:
                raise self._failure(f"The model of {' and '.join(failed)} could not be loaded")
            loading = [_JOBS.get(job, job) for job, how in health.models.items() if how != "ready"]
            line = f"Loading {' and '.join(loading) or 'the models'}"
            if line != told:
                on_progress(line)
                told = line
            if time.monotonic() > deadline:
                raise self._failure(f"The models did not load in {MODELS_SECONDS:g} seconds")
            await asyncio.sleep(POLL_SECONDS)

    def require_running(self) -> None:
        """Raises PrivateServerFailed when the server has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise self._failure("The private server has ended")

    async def stop(self) -> None:
        """End the server: asked to, and after ten seconds made to."""
        await asyncio.to_thread(self._end)
        atexit.unregister(self._end)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- Steps of the start -------------------------------------------------------------------

    def _take_lock(self) -> None:
        """A new key replaces the last one, which another prep may be using right now."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self._directory / "client.lock").open("a+")
        except OSError as error:
            raise LocalServerFailed(
                f"{self._directory} cannot be used: {error.strerror}."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise LocalServerFailed(
                f"Another prep (process {owner}) is using your private server. End it first."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    async def _new_key(self) -> str:
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
        raise _not_started(errors.decode("utf-8", "replace"), process.returncode)

    async def _launch(self, ready_file: Path) -> None:
        process = self._spawn(ready_file)
        deadline = time.monotonic() + READY_SECONDS
        while (ready := _read_ready(ready_file)) is None:
            if process.poll() is not None:
                raise _not_started(self._log_text(), process.returncode)
            if time.monotonic() > deadline:
                raise self._failure(f"The private server did not start in {READY_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)
        self.url = ready.url

    def _spawn(self, ready_file: Path) -> "subprocess.Popen[bytes]":
        arguments = ["--host", "127.0.0.1", "--port", "0", "--data-dir", str(self._directory)]
        arguments += ["--ready-file", str(ready_file), "--rate-limit", "0"]
        arguments += shlex.split(os.environ.get(ARGUMENTS, ""))
        with self.log.open("wb") as log:
            # In a group of its own, so that Ctrl-C in the terminal ends prep first.
            self._process = subprocess.Popen(
                _command("serve", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._pid_file.write_text(str(self._process.pid))
        # For an end that passes by `stop`: no server may outlive the prep that started it.
        atexit.register(self._end)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process)
            self._pid_file.unlink(missing_ok=True)

    def _failure(self, what: str) -> LocalServerFailed:
        return LocalServerFailed(f"{what}. Its log, {self.log}, ends with:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(f"  {line}" for line in self._log_text().splitlines()[-8:])

    def _log_text(self) -> str:
        try:
            return self.log.read_text("utf-8", "replace")
        except OSError:
            return ""


def _read_ready(file: Path) -> _Ready | None:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(file.read_bytes(), type=_Ready)
    return None


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prepserver", *arguments]


def _not_started(output: str, code: int | None) -> LocalServerFailed:
    # A module of prep's own that is missing is a broken installation: its traceback says more.
    if re.search(r"No module named (?!'?prepserver\.)", output):
        return LocalServerFailed(
            "A private server needs the server's packages, which are not installed: "
            "pip install 'prep-interview[server]' — or name a server by --server URL."
        )
    said = "\n".join(f"  {line}" for line in output.strip().splitlines()[-8:])
    return LocalServerFailed(
        f"The private server did not start (exit code {code}). It says:\n{said or '  nothing'}"
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL to what of its group is left."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # Engines are processes too. A group that is empty by now is as good as one that was killed.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
