"""One life of an engine's process: spoken to in frames, watched, ended.

`prepserver.engines.ipc.supervisor` starts the next one.
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
    HEADER,
    MAX_FRAME,
    CancelFrame,
    Command,
    ConfigureFrame,
    DoneFrame,
    EventFrame,
    FailedFrame,
    ReadyFrame,
    Reply,
    decode_reply,
    encode,
    pack,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Answers", "EngineProcess", "died", "reported"]

KEPT_LINES = 40
"""Lines of the engine's own output that are kept to explain a death."""
LONGEST_LINE = 65_536
"""Bytes of one such line."""

log = structlog.get_logger(__name__)

Answers = asyncio.Queue[Reply | Exception]


class EngineProcess:
    """One life of an engine's process."""

    def __init__(
        self, process: asyncio.subprocess.Process, name: str, clock: Clock, grace: float
    ) -> None:
        self._process = process
        self._name = name
        self._clock = clock
        self._grace = grace
        self._log = log.bind(engine=name, pid=process.pid)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._open: dict[int, Answers] = {}
        self._busy = asyncio.Event()
        self._heard = clock.monotonic()
        self._loaded: asyncio.Future[ReadyFrame | FailedFrame] = (
            asyncio.get_running_loop().create_future()
        )
        self._supervisor = asyncio.create_task(self._supervise())
        self._watcher: asyncio.Task[None] | None = None
        self.info = Raw(b"")
        self.cause: str | None = None
        """Why it is dead, or about to be."""

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        name: str,
        clock: Clock,
        grace: float,
    ) -> "EngineProcess":
        """Raises InferenceError when the program cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C in the terminal is for the server, which then ends its engines in order.
                start_new_session=True,
            )
        except OSError as error:
            raise _unloadable(name, f"its process cannot be started: {error}") from error
        return cls(process, name, clock, grace)

    @property
    def pid(self) -> int:
        return self._process.pid

    # --- Life ---------------------------------------------------------------------------------

    async def load(self, options: Struct, timeout: float) -> None:
        """Raises InferenceError."""
        await self.send(ConfigureFrame(encode(options)))
        try:
            answer = await wait_for(self._clock, asyncio.shield(self._loaded), timeout)
        except TimeoutError:
            raise _unloadable(self._name, f"it was not ready after {timeout:g} s") from None
        match answer:
            case ReadyFrame(info=info):
                self.info = info
                self._log.info("engine.ready")
            case FailedFrame() as failed:
                raise reported(failed)

    def watch(self, stall_timeout: float) -> None:
        """From now on, take silence while requests wait for death."""
        self._watcher = asyncio.create_task(self._watch(stall_timeout))

    async def end(self, cause: str) -> None:
        """Returns when the process is gone and its end is told to whoever waits."""
        self.cause = self.cause or cause
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await wait_for(self._clock, asyncio.shield(self._supervisor), self._grace)
        except TimeoutError:
            self._kill()
            await self._supervisor

    def _kill(self) -> None:
        # Its whole group: an engine may have started helpers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _supervise(self) -> None:
        """Read until the process ends, then tell everybody that it did."""
        complaints = asyncio.create_task(self._read_stderr())
        try:
            await self._read_frames()
        except (OSError, ValueError, msgspec.DecodeError) as error:
            self.cause = self.cause or f"wrote something that is not a frame ({error})"
        finally:
            # No frame will come any more, so it is of no use even if it still runs.
            if self._process.returncode is None and self.cause is not None:
                self._kill()
        code = await self._settled()
        await complaints
        if self._watcher is not None:
            self._watcher.cancel()
        self.cause = self.cause or self._reason(code)
        report = self._log.info if code == 0 else self._log.warning
        report("engine.ended", cause=self.cause, returncode=code)
        if not self._loaded.done():
            # An exit code is the engine's own word that it cannot go on; a signal is not.
            self._loaded.set_exception(
                died(self._name, self.cause)
                if code < 0
                else _unloadable(self._name, f"its process {self.cause}")
            )
            self._loaded.exception()  # nobody may be waiting any more
        for answers in self._open.values():
            answers.put_nowait(died(self._name, self.cause))

    async def _settled(self) -> int:
        """The exit code, at most a grace after the pipe was closed."""
        try:
            return await wait_for(self._clock, self._process.wait(), self._grace)
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _reason(self, code: int) -> str:
        if code < 0:
            return f"was killed by signal {-code}"
        last = f": {self._lines[-1]}" if self._lines else ""
        return f"ended with exit code {code}{last}"

    # --- Frames -------------------------------------------------------------------------------

    def open(self, number: int) -> Answers:
        """Where the answers to a request arrive."""
        if not self._open:
            self._heard = self._clock.monotonic()
        answers: Answers = asyncio.Queue()
        self._open[number] = answers
        self._busy.set()
        return answers

    def forget(self, number: int, *, cancel: bool) -> None:
        del self._open[number]
        if not self._open:
            self._busy.clear()
        assert self._process.stdin is not None
        if cancel and self.cause is None and not self._process.stdin.is_closing():
            self._process.stdin.write(pack(CancelFrame(number)))

    async def send(self, frame: Command) -> None:
        """Raises InferenceError when the frame is too long; a dead process is told elsewhere."""
        try:
            data = pack(frame)
        except ValueError as error:
            raise InferenceError(
                f"The request is too long for the {self._name}: {error}.",
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
                (length,) = HEADER.unpack(await stream.readexactly(HEADER.size))
                if length > MAX_FRAME:
                    raise ValueError(f"a length of {length} bytes")
                frame = decode_reply(await stream.readexactly(length))
            except asyncio.IncompleteReadError:
                return
            self._heard = self._clock.monotonic()
            match frame:
                case EventFrame(id=number) | DoneFrame(id=number) if number in self._open:
                    self._open[number].put_nowait(frame)
                case FailedFrame(id=number) if number in self._open:
                    self._open[number].put_nowait(frame)
                case ReadyFrame() | FailedFrame(id=0) if not self._loaded.done():
                    self._loaded.set_result(frame)
                case _:
                    continue  # a sign of life, or the answer to a cancelled request

    async def _read_stderr(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        rest = b""
        while data := await stream.read(8_192):
            *lines, rest = (rest + data)[-LONGEST_LINE:].split(b"\n")
            for line in lines:
                self._keep(line)
        self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        if text:
            self._lines.append(text)
            self._log.debug("engine.said", line=text)

    async def _watch(self, timeout: float) -> None:
        while True:
            await self._busy.wait()
            silence = self._clock.monotonic() - self._heard
            if silence < timeout:
                await self._clock.sleep(timeout - silence)
                continue
            self.cause = f"gave no sign of life for {timeout:g} s"
            self._kill()
            return


def reported(failed: FailedFrame) -> InferenceError:
    return InferenceError(
        failed.message, code=failed.code, retryable=failed.retryable, details=failed.details
    )


def died(name: str, cause: str) -> InferenceError:
    return InferenceError(
        f"The {name} {cause}. Trying again starts it anew.",
        code=ErrorCode.WORKER_DIED,
        retryable=True,
    )


def _unloadable(name: str, cause: str) -> InferenceError:
    return InferenceError(
        f"The {name} cannot be loaded: {cause}.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False
    )
