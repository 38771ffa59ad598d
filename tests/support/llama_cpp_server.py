"""llama-cpp-python's own OpenAI-compatible server in a child process, as a real endpoint."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from prepserver.engines.ipc.supervisor import NATIVE_ENVIRONMENT

__all__ = ["LlamaCppServer"]

START_SECONDS = 60.0
STOP_SECONDS = 10.0


class LlamaCppServer:
    """Server that runs within a `with` block; `url` ends in `/v1`."""

    def __init__(self, folder: Path, model: Path, *flags: str) -> None:
        """Prepare `python -m llama_cpp.server` with the options `flags`; the log is written to
        `folder`."""
        self.log_file = folder / "llama-cpp-server.log"
        self.url = ""
        self._argv = (
            *(sys.executable, "-m", "llama_cpp.server", "--model", str(model)),
            *("--host", "127.0.0.1", "--port", "0", "--verbose", "false", *flags),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LlamaCppServer":
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**NATIVE_ENVIRONMENT, **os.environ},
            )
        deadline = time.monotonic() + START_SECONDS
        while not (match := re.search(r"running on (http://127\.0\.0\.1:\d+)", self.log)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"llama_cpp.server did not start:\n{self.log}")
            time.sleep(0.02)
        self.url = f"{match[1]}/v1"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def kill(self) -> None:
        """Kill the server without a graceful shutdown."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
