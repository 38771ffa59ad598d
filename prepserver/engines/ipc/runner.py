"""The engine's side of the pipe: the loop that an engine's process runs.

The main thread advances all open requests, one step at a time. A second thread reads the pipe, so
that a cancellation arrives while native code is computing, and so that the process ends as soon as
the server does.
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
    FRAME_HEADER,
    MAX_FRAME_BYTES,
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
    encode_payload,
    pack_frame,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Engine", "EngineCall", "serve"]

PR_SET_PDEATHSIG = 1
"""Option of prctl(2) that sets the signal sent to this process when its parent dies."""


class EngineCall:
    """One request as the engine sees it. The engine ends the request with `complete` or `fail`."""

    def __init__(self, request: RequestFrame, send: Callable[[Reply], None]) -> None:
        self.id = request.id
        self.payload: Raw = request.payload
        self.inputs: deque[Raw] = deque()
        """Inputs that have been received but that the engine has not yet taken."""
        self.input_ended = False
        """True once all input has been received; nothing more is added to `inputs`."""
        self.cancelled = False
        """True once the caller has cancelled the request."""
        self.completed = False
        """True once `complete` or `fail` has been called; later events are not sent."""
        self._send = send

    def send_event(self, event: Struct) -> None:
        """Send an event to the caller, unless the request has ended or was cancelled."""
        if not self.completed and not self.cancelled:
            self._send(EventFrame(self.id, encode_payload(event)))

    def send_heartbeat(self) -> None:
        """Report that the engine is working. The server kills an engine that has an open request
        but sends no frame within the stall timeout."""
        self._send(HeartbeatFrame())

    def complete(self) -> None:
        """End a request that was answered or cancelled."""
        if not self.completed:
            self.completed = True
            self._send(DoneFrame(self.id))

    def fail(self, error: InferenceError) -> None:
        if not self.completed:
            self.completed = True
            self._send(_failed_frame(self.id, error))


class Engine(Protocol):
    """Engine that processes requests with native code. All methods are called from one thread."""

    def submit(self, call: EngineCall) -> None:
        """Accept a request. Raises InferenceError if the request cannot be processed."""

    def run_step(self) -> bool:
        """Advance the open requests by one step.

        Return False if the engine can do nothing until the next request, input or cancellation. An
        exception fails every open request.
        """


class FramePipe:
    """Pipe that carries frames over the standard input and output of this process.

    File descriptors 0 and 1 are redirected, so that no other code can read or write frames.
    """

    def __init__(self) -> None:
        self._in: BinaryIO = BufferedReader(FileIO(os.dup(0), "r"))
        self._out = os.dup(1)
        # Native code prints at any time: redirect it to stderr, away from the frames.
        os.dup2(2, 1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self._lock = threading.Lock()

    def read_command(self) -> Command:
        """Read the next frame.

        Raises EOFError if the server has closed the pipe or the frame is too long, and
        msgspec.DecodeError if the frame is not a command.
        """
        header = self._in.read(FRAME_HEADER.size)
        if len(header) < FRAME_HEADER.size:
            raise EOFError
        (length,) = FRAME_HEADER.unpack(header)
        if length > MAX_FRAME_BYTES:
            raise EOFError
        body = self._in.read(length)
        if len(body) < length:
            raise EOFError
        return decode_command(body)

    def send_reply(self, frame: Reply) -> None:
        """Write a frame. Any thread may call this method. If the server has closed the pipe, this
        process exits."""
        data = memoryview(pack_frame(frame))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._out, data) :]
            except BrokenPipeError:
                os._exit(0)


class EngineLoop:
    """Loop that dispatches commands to the open calls and drives the engine."""

    def __init__(self, pipe: FramePipe) -> None:
        self._pipe = pipe
        self._incoming: queue.SimpleQueue[EngineCall | None] = queue.SimpleQueue()
        """Queue of new calls. A None in the queue wakes the engine after an open call has received
        input, reached the end of its input, or been cancelled."""
        self._calls: dict[int, EngineCall] = {}
        self._lock = threading.Lock()

    def read_commands(self) -> None:
        """Handle commands until the server closes the pipe or sends an invalid frame, then end the
        process."""
        try:
            while (command := self._pipe.read_command()) is not None:
                self._handle_command(command)
        except (EOFError, OSError):
            pass
        except (DecodeError, ValueError):
            traceback.print_exc()
        # Exit at once: native code may be deep in a computation whose result has no reader.
        os._exit(0)

    def _handle_command(self, command: Command) -> None:
        match command:
            case RequestFrame() as request:
                call = EngineCall(request, self._pipe.send_reply)
                with self._lock:
                    self._calls[call.id] = call
                self._incoming.put(call)
                return
            case ConfigureFrame():
                raise ValueError("the engine is already configured")
            case CancelFrame() | InputFrame() | EndOfInputFrame():
                with self._lock:
                    known = self._calls.get(command.id)
        if known is None:
            return
        match command:
            case InputFrame(payload=payload):
                known.inputs.append(payload)
            case EndOfInputFrame():
                known.input_ended = True
            case CancelFrame():
                known.cancelled = True
        self._incoming.put(None)

    def run(self, engine: Engine) -> None:
        """Run the engine forever, sleeping while it is idle."""
        busy = False
        while True:
            self._submit_new_calls(engine, wait=not busy)
            try:
                busy = engine.run_step()
            except Exception as error:
                for call in self._open_calls():
                    call.fail(_to_inference_error(error))
            self._remove_completed_calls()

    def _submit_new_calls(self, engine: Engine, *, wait: bool) -> None:
        """Submit every queued call to the engine. With `wait`, first wait for a command."""
        while wait or not self._incoming.empty():
            call, wait = self._incoming.get(), False
            if call is not None:
                try:
                    engine.submit(call)
                except Exception as error:
                    call.fail(_to_inference_error(error))

    def _open_calls(self) -> list[EngineCall]:
        with self._lock:
            return list(self._calls.values())

    def _remove_completed_calls(self) -> None:
        for call in self._open_calls():
            if call.completed:
                with self._lock:
                    del self._calls[call.id]


def serve(load: Callable[[Raw], tuple[Struct, Engine]]) -> None:
    """Run an engine on standard input and output until the server closes the pipe.

    `load` receives the options from the `ConfigureFrame` and returns the engine's description and
    the engine. If `load` raises an exception, the server receives the error and this function
    returns.
    """
    _die_with_parent()
    pipe = FramePipe()
    try:
        first = pipe.read_command()
    except EOFError:
        return
    if not isinstance(first, ConfigureFrame):
        raise SystemExit("The first frame must be ConfigureFrame.")
    loop = EngineLoop(pipe)
    threading.Thread(target=loop.read_commands, name="commands", daemon=True).start()
    try:
        info, engine = load(first.options)
    except Exception as error:
        if not isinstance(error, InferenceError):
            traceback.print_exc()
            error = InferenceError(
                f"Could not load the engine: {error}.",
                code=ErrorCode.MODEL_NOT_LOADED,
                retryable=False,
            )
        pipe.send_reply(_failed_frame(0, error))
        return
    pipe.send_reply(ReadyFrame(encode_payload(info)))
    loop.run(engine)


def _to_inference_error(error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    traceback.print_exception(error)
    return InferenceError(f"The engine failed: {error}. Try again.")


def _failed_frame(id: int, error: InferenceError) -> FailedFrame:
    return FailedFrame(
        id=id,
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        details=error.details,
    )


def _die_with_parent() -> None:
    """On Linux, ask the kernel to kill this process when the server dies.

    Closing the pipe does not end a process whose native code holds the interpreter's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
