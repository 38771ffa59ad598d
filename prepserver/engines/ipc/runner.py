"""The engine's side of the pipe: what an engine's process runs.

The main thread works, a little at a time, on all requests that are open; a second thread reads the
pipe, so that a cancellation is seen while native code computes, and so that the process ends at
once when the server is gone.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from io import BufferedReader, FileIO
from typing import BinaryIO, Protocol

from msgspec import DecodeError, Raw, Struct

from prepserver.engines.ipc.frames import (
    HEADER,
    MAX_FRAME,
    CancelFrame,
    Command,
    ConfigureFrame,
    DoneFrame,
    EndOfInputFrame,
    EventFrame,
    FailedFrame,
    HeartbeatFrame,
    InputFrame,
    ReadyFrame,
    Reply,
    RequestFrame,
    decode_command,
    encode,
    pack,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Engine", "EngineCall", "serve"]

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal to get when the parent dies."""


class EngineCall:
    """One request, as the engine that works on it sees it. Ends with `complete` or `fail`."""

    def __init__(self, request: RequestFrame, send: Callable[[Reply], None]) -> None:
        self.id = request.id
        self.payload: Raw = request.payload
        self.inputs: deque[Raw] = deque()
        """Input that came after the request; the engine takes it out."""
        self.input_ended = False
        """Whether no more input will come. True only after the last of it is in `inputs`."""
        self.cancelled = False
        """Whether nobody waits for the result any more."""
        self.completed = False
        """Whether `complete` or `fail` was called; what comes after that is not sent."""
        self._send = send

    def send_event(self, event: Struct) -> None:
        """Tell something of the work to whoever asked."""
        if not self.completed and not self.cancelled:
            self._send(EventFrame(self.id, encode(event)))

    def send_heartbeat(self) -> None:
        """Say that work goes on; to be called every few seconds at least."""
        self._send(HeartbeatFrame())

    def complete(self) -> None:
        """The request is answered, or was cancelled."""
        if not self.completed:
            self.completed = True
            self._send(DoneFrame(self.id))

    def fail(self, error: InferenceError) -> None:
        if not self.completed:
            self.completed = True
            self._send(_failed(self.id, error))


class Engine(Protocol):
    """Native code behind requests. It is called from one thread only."""

    def submit(self, call: EngineCall) -> None:
        """Take a request. Raises InferenceError when it cannot be worked on."""

    def run_step(self) -> bool:
        """Do a little of the open work; False when there is nothing to do until news come: a
        request, more input, a cancellation. What it raises fails every request that is open."""


class Pipe:
    """Standard input and output, taken away from everybody else in this process."""

    def __init__(self) -> None:
        self._in: BinaryIO = BufferedReader(FileIO(os.dup(0), "r"))
        self._out = os.dup(1)
        # Native code prints when it likes: what it prints must not land between two frames.
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._lock = threading.Lock()

    def read(self) -> Command:
        """Raises EOFError when the server is gone."""
        header = self._in.read(HEADER.size)
        if len(header) < HEADER.size:
            raise EOFError
        (length,) = HEADER.unpack(header)
        if length > MAX_FRAME:
            raise EOFError
        body = self._in.read(length)
        if len(body) < length:
            raise EOFError
        return decode_command(body)

    def send(self, frame: Reply) -> None:
        data = memoryview(pack(frame))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._out, data) :]
            except BrokenPipeError:
                os._exit(0)


class EngineLoop:
    """The requests that are open, and the news of them."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._news: queue.SimpleQueue[EngineCall | None] = queue.SimpleQueue()
        """New requests; None for news of one that is known."""
        self._calls: dict[int, EngineCall] = {}
        self._lock = threading.Lock()

    def read(self) -> None:
        """Take in frames until the server is gone, then end the process."""
        try:
            while (frame := self._pipe.read()) is not None:
                self._take(frame)
        except (EOFError, OSError):
            pass
        except (DecodeError, ValueError):
            traceback.print_exc()
        # Native code may be deep in a computation that nobody wants any more.
        os._exit(0)

    def _take(self, frame: Command) -> None:
        match frame:
            case RequestFrame() as request:
                call = EngineCall(request, self._pipe.send)
                with self._lock:
                    self._calls[call.id] = call
                self._news.put(call)
                return
            case ConfigureFrame():
                raise ValueError("an engine is configured once")
            case CancelFrame() | InputFrame() | EndOfInputFrame():
                with self._lock:
                    known = self._calls.get(frame.id)
        if known is None:
            return
        match frame:
            case InputFrame(payload=payload):
                known.inputs.append(payload)
            case EndOfInputFrame():
                known.input_ended = True
            case CancelFrame():
                known.cancelled = True
        self._news.put(None)

    def work(self, engine: Engine) -> None:
        """Let the engine work whenever there is something to do, for ever."""
        busy = False
        while True:
            self._admit(engine, wait=not busy)
            try:
                busy = engine.run_step()
            except Exception as error:
                for call in self._open():
                    call.fail(_of_engine(error))
            self._forget_ended()

    def _admit(self, engine: Engine, *, wait: bool) -> None:
        """Hand over the requests that have come; waits for news if there is nothing else."""
        while wait or not self._news.empty():
            call, wait = self._news.get(), False
            if call is not None:
                try:
                    engine.submit(call)
                except Exception as error:
                    call.fail(_of_engine(error))

    def _open(self) -> list[EngineCall]:
        with self._lock:
            return list(self._calls.values())

    def _forget_ended(self) -> None:
        for call in self._open():
            if call.completed:
                with self._lock:
                    del self._calls[call.id]


def serve(load: Callable[[Raw], tuple[Struct, Engine]]) -> None:
    """Run an engine on standard input and output until the server goes away.

    `load` gets the options of the `ConfigureFrame` frame and gives back what is told of the engine,
    and the engine; it raises InferenceError when the engine cannot be loaded.
    """
    _end_with_parent()
    pipe = Pipe()
    try:
        first = pipe.read()
    except EOFError:
        return
    if not isinstance(first, ConfigureFrame):
        raise SystemExit("the first frame must be Configure")
    desk = EngineLoop(pipe)
    threading.Thread(target=desk.read, name="frames", daemon=True).start()
    try:
        info, engine = load(first.options)
    except Exception as error:
        if not isinstance(error, InferenceError):
            traceback.print_exc()
            error = InferenceError(
                f"The engine cannot be loaded: {error}",
                code=ErrorCode.MODEL_NOT_LOADED,
                retryable=False,
            )
        pipe.send(_failed(0, error))
        return
    pipe.send(ReadyFrame(encode(info)))
    desk.work(engine)


def _of_engine(error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    traceback.print_exception(error)
    return InferenceError(f"The engine failed: {error}")


def _failed(number: int, error: InferenceError) -> FailedFrame:
    return FailedFrame(
        id=number,
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        details=error.details,
    )


def _end_with_parent() -> None:
    """Where the system can, ask to be killed with the server: closing the pipe alone does not
    end a process whose native code holds the interpreter's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
