"""Standard streams of a command: closed descriptors, narrow encodings, and output that is lost."""

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

__all__ = ["OutputFailed", "run_command"]

BROKEN_PIPE_CODE = 141
"""Exit code after the reader of a pipe has ended: 128 plus the number of SIGPIPE, the convention of
shells."""


class OutputFailed(Exception):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        closed = error.errno == errno.EBADF
        reason = "it is closed" if closed else error.strerror
        super().__init__(
            f"Cannot write to standard output: {reason}. Send the output to a file or a terminal "
            "that can be written."
        )
        self.is_broken_pipe = error.errno == errno.EPIPE


def run_command(command: Callable[[], None], *, prefix: str) -> NoReturn:
    """Run a command on usable standard streams, then exit.

    A closed standard stream is opened on `/dev/null`, so that no other file takes its descriptor. A
    character that a stream's encoding lacks is written as `?`. Lost standard output ends the
    command with exit code 1 and one line on standard error after `prefix`, or silently with
    `BROKEN_PIPE_CODE` if the reader of a pipe has ended. Lost standard error is ignored.
    """
    _open_streams()
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except OutputFailed as error:
        if error.is_broken_pipe:
            sys.exit(BROKEN_PIPE_CODE)
        print(f"{prefix}: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit()


class _Output(io.FileIO):
    """Standard output or standard error, unbuffered. After a failed write, everything is
    discarded, so that closing the stream cannot fail again."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._failed = False

    def write(self, data: Any) -> int:
        if self._failed:
            return len(data)
        try:
            # None means that another program made the descriptor non-blocking and its pipe is full.
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            self._failed = True
            if self.fileno() == 1:
                raise OutputFailed(error) from None
            return len(data)
        return written


def _open_streams() -> None:
    # The lowest free descriptor is used, so the order matters. Standard output is opened for
    # reading: writing to it must fail.
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    # A stream that the host of this interpreter has replaced, such as a test, is left alone.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text_stream(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text_stream(sys.stderr, 2)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def _text_stream(stream: TextIO | None, descriptor: int) -> TextIO:
    """Return a stream with the encoding of `stream`, which is None if the descriptor was closed
    before the start of Python."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor)),
        encoding=stream.encoding if stream else "utf-8",
        errors="replace",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )
