"""A single run of an engine's process: frames in and out, stderr, watchdog, termination.

`prepserver.engines.ipc.supervisor` starts the next run.
"""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
import structlog
from msgspec import Raw, Struct

from prepserver.clock import Clock, wait_for
from prepserver.engines.ipc.frames import (
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    CancelFrame,
    Command,
    ConfigureFrame,
    DoneFrame,
    EventFrame,
    FailedFrame,
    ReadyFrame,
    Reply,
    decode_reply,
    encode_payload,
    pack_frame,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "CLOSED",
    "EngineProcess",
    "ReplyQueue",
    "closed_message",
    "to_inference_error",
    "worker_died",
]

STDERR_LINES = 40
"""Maximum number of recent lines of the engine's stderr that are kept to explain a crash."""
MAX_LINE_BYTES = 65_536
"""Maximum length of a line of stderr, in bytes. Only the end of a longer line is kept."""

CLOSED = "was closed"
"""Cause recorded for an engine process that the server closed deliberately."""

log = structlog.get_logger(__name__)

ReplyQueue = asyncio.Queue[Reply | Exception]


class EngineProcess:
    """A running engine process and its open requests."""

    def __init__(
        self, process: asyncio.subprocess.Process, name: str, clock: Clock, grace: float
    ) -> None:
        self._process = process
        self._name = name
        self._clock = clock
        self._grace = grace
        self._log = log.bind(engine=name, pid=process.pid)
        self._stderr_lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._open_requests: dict[int, ReplyQueue] = {}
        self._busy = asyncio.Event()
        self._last_frame_at = clock.monotonic()
        self._loaded: asyncio.Future[ReadyFrame | FailedFrame] = (
            asyncio.get_running_loop().create_future()
        )
        self._lifetime = asyncio.create_task(self._run())
        self._watchdog: asyncio.Task[None] | None = None
        self.info = Raw(b"")
        """The engine's description of itself, in msgpack; empty until the engine is loaded."""
        self.cause: str | None = None
        """Reason why the process has ended or is about to be ended; None otherwise."""

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        name: str,
        clock: Clock,
        grace: float,
    ) -> "EngineProcess":
        """Start an engine's process. Raises InferenceError if the program cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C must reach only the server, which then ends its engines in order.
                start_new_session=True,
            )
        except OSError as error:
            raise _load_failed(name, f"its process did not start: {error.strerror}") from error
        return cls(process, name, clock, grace)

    @property
    def pid(self) -> int:
        return self._process.pid

    # --- Lifetime -----------------------------------------------------------------------------

    async def load(self, options: Struct, timeout: float) -> None:
        """Configure the engine and wait up to `timeout` seconds for it to load.

        Raises InferenceError if loading fails or takes longer.
        """
        await self.send_command(ConfigureFrame(encode_payload(options)))
        try:
            reply = await wait_for(self._clock, asyncio.shield(self._loaded), timeout)
        except TimeoutError:
            raise _load_failed(self._name, f"it was not ready after {timeout:g} s") from None
        match reply:
            case ReadyFrame(info=info):
                self.info = info
                self._log.info("engine.ready")
            case FailedFrame() as failed:
                raise to_inference_error(failed)

    def start_watchdog(self, stall_timeout: float) -> None:
        """Start a watchdog that kills the process after `stall_timeout` seconds without a frame
        while a request is open."""
        self._watchdog = asyncio.create_task(self._watch(stall_timeout))

    async def terminate(self, cause: str) -> None:
        """Close the pipe, kill the process if it outlives the grace period, and fail all open
        requests.

        The method returns when the process has ended.
        """
        self.cause = self.cause or cause
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await wait_for(self._clock, asyncio.shield(self._lifetime), self._grace)
        except TimeoutError:
            self._kill()
            await self._lifetime

    def _kill(self) -> None:
        # Kill the whole process group: an engine may have started helpers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _run(self) -> None:
        """Read frames until the process ends, then fail every open request."""
        stderr_reader = asyncio.create_task(self._read_stderr())
        try:
            await self._read_frames()
        except (OSError, ValueError, msgspec.DecodeError) as error:
            self.cause = self.cause or f"wrote data that is not a frame ({error})"
        finally:
            # Without a readable pipe the process is useless, even if it still runs.
            if self._process.returncode is None and self.cause is not None:
                self._kill()
        exit_code = await self._wait_for_exit()
        await stderr_reader
        if self._watchdog is not None:
            self._watchdog.cancel()
        self.cause = self.cause or self._exit_cause(exit_code)
        report = self._log.info if exit_code == 0 else self._log.warning
        report("engine.exited", cause=self.cause, returncode=exit_code)
        if not self._loaded.done():
            # Only a start that was ended by a signal is worth a retry.
            self._loaded.set_exception(
                worker_died(self._name, self.cause)
                if exit_code < 0
                else _load_failed(self._name, f"its process {self.cause}")
            )
            self._loaded.exception()  # mark as retrieved: `load` may have been cancelled
        for replies in self._open_requests.values():
            replies.put_nowait(worker_died(self._name, self.cause))

    async def _wait_for_exit(self) -> int:
        """Wait for the process to end and return the exit code. If the process is still running
        after the grace period, kill it."""
        try:
            return await wait_for(self._clock, self._process.wait(), self._grace)
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _exit_cause(self, exit_code: int) -> str:
        if exit_code < 0:
            return f"was killed by signal {-exit_code}"
        last_line = f": {self._stderr_lines[-1]}" if self._stderr_lines else ""
        return f"ended with exit code {exit_code}{last_line}"

    # --- Frames -------------------------------------------------------------------------------

    def open_request(self, id: int) -> ReplyQueue:
        """Register a request and return the queue that receives its replies."""
        if not self._open_requests:
            self._last_frame_at = self._clock.monotonic()
        replies: ReplyQueue = asyncio.Queue()
        self._open_requests[id] = replies
        self._busy.set()
        return replies

    def close_request(self, id: int, *, cancel: bool) -> None:
        """Stop delivering replies to a request. With `cancel`, tell the engine to stop working on
        the request."""
        del self._open_requests[id]
        if not self._open_requests:
            self._busy.clear()
        assert self._process.stdin is not None
        if cancel and self.cause is None and not self._process.stdin.is_closing():
            self._process.stdin.write(pack_frame(CancelFrame(id)))

    async def send_command(self, frame: Command) -> None:
        """Write a frame to the engine. Raises InferenceError if the frame is too long.

        A broken pipe is ignored: the end of the process fails the open requests.
        """
        try:
            data = pack_frame(frame)
        except ValueError as error:
            raise InferenceError(
                f"The request is too long for the {self._name}: {error}. Shorten the request.",
                code=ErrorCode.REQUEST_TOO_LONG,
                retryable=False,
            ) from error
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def _read_frames(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while True:
            try:
                (length,) = FRAME_HEADER.unpack(await stream.readexactly(FRAME_HEADER.size))
                if length > MAX_FRAME_BYTES:
                    raise ValueError(
                        f"a length of {length} bytes exceeds the limit of {MAX_FRAME_BYTES}"
                    )
                frame = decode_reply(await stream.readexactly(length))
            except asyncio.IncompleteReadError:
                return
            self._last_frame_at = self._clock.monotonic()
            match frame:
                case EventFrame(id=id) | DoneFrame(id=id) if id in self._open_requests:
                    self._open_requests[id].put_nowait(frame)
                case FailedFrame(id=id) if id in self._open_requests:
                    self._open_requests[id].put_nowait(frame)
                case ReadyFrame() | FailedFrame(id=0) if not self._loaded.done():
                    self._loaded.set_result(frame)
                case _:
                    continue  # a heartbeat, or a reply to a cancelled request

    async def _read_stderr(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        rest = b""
        while data := await stream.read(8_192):
            *lines, rest = (rest + data)[-MAX_LINE_BYTES:].split(b"\n")
            for line in lines:
                self._record_stderr(line)
        self._record_stderr(rest)

    def _record_stderr(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        if text:
            self._stderr_lines.append(text)
            self._log.debug("engine.stderr", line=text)

    async def _watch(self, timeout: float) -> None:
        while True:
            await self._busy.wait()
            silence = self._clock.monotonic() - self._last_frame_at
            if silence < timeout:
                await self._clock.sleep(timeout - silence)
                continue
            self.cause = f"sent no heartbeat for {timeout:g} s"
            self._kill()
            return


def to_inference_error(failed: FailedFrame) -> InferenceError:
    """Return the error that the engine reported in a frame."""
    return InferenceError(
        failed.message, code=failed.code, retryable=failed.retryable, details=failed.details
    )


def worker_died(name: str, cause: str) -> InferenceError:
    """Return the retryable error for the requests to a process that has ended."""
    if cause == CLOSED:
        message = closed_message(name)
    else:
        message = f"The {name} {cause}. Try again: the next request restarts it."
    return InferenceError(message, code=ErrorCode.WORKER_DIED, retryable=True)


def closed_message(name: str) -> str:
    """Return the message for requests to an engine that the server has closed."""
    return f"The server is stopping and has shut down its {name}. Try again once it has restarted."


def _load_failed(name: str, cause: str) -> InferenceError:
    return InferenceError(
        f"Could not load the {name}: {cause}.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False
    )
