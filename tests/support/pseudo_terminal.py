"""Program on a pseudo-terminal, which tests read and type on as a person does."""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

__all__ = ["TerminalProcess"]

TIMEOUT_SECONDS = 60.0

SIZE = (24, 80)
"""Rows and columns."""


class TerminalProcess:
    """Process whose controlling terminal is a pseudo-terminal; it is killed at the end of the
    `with` block."""

    def __init__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to the environment of the test, in which TERM is xterm."""
        self._controller, terminal = os.openpty()
        fcntl.ioctl(self._controller, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        # Opened by a shell in a new session, the terminal becomes the controlling one.
        opening = 'exec "$@" <>"$0" >&0 2>&0'
        self._process = subprocess.Popen(
            ["sh", "-c", opening, os.ttyname(terminal), *command],
            stdin=terminal,
            env={**os.environ, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
        )
        os.close(terminal)
        self.output = ""
        """Everything that the terminal has received, with escape sequences."""
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self.close()

    def close(self) -> None:
        """Close the terminal, as closing its window does."""
        if self._controller >= 0:
            os.close(self._controller)
        self._controller = -1

    def wait_for_exit(self) -> int:
        """Wait until the process has ended after `close`, and return its exit code."""
        return self._process.wait(TIMEOUT_SECONDS)

    def wait_for(self, text: str) -> None:
        """Read the output until it contains `text` after the text waited for before."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (found := self.output.find(text, self._position)) < 0:
            assert time.monotonic() < deadline, self.output
            if not self._read():
                raise AssertionError(f"ended without {text!r}: {self.output}")
        self._position = found + len(text)

    def type(self, text: str) -> None:
        """Type text, and read the output meanwhile."""
        data = text.encode()
        while data:
            if select.select([self._controller], [self._controller], [])[1]:
                data = data[os.write(self._controller, data[:1000]) :]
            self._read(0.0)

    def wait(self) -> int:
        """Read the output until the process has ended, and return its exit code."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._read():
            assert time.monotonic() < deadline, self.output
        return self._process.wait(TIMEOUT_SECONDS)

    def _read(self, seconds: float = 0.2) -> bool:
        """Read what arrives within the given time. Return False if the terminal is closed."""
        if select.select([self._controller], [], [], seconds)[0]:
            data = b""
            with contextlib.suppress(OSError):
                data = os.read(self._controller, 65536)
            self.output += data.decode("utf-8", "replace")
            return bool(data)
        return True
