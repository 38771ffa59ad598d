"""The engine's side of the pipe: what an engine's process runs.

The main thread works on one request after the other; a second thread reads the pipe, so that a
cancellation is seen while native code computes, and so that the process ends at once when the
server is gone.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from io import BufferedReader, FileIO
from typing import BinaryIO, Protocol

from msgspec import DecodeError, Raw, Struct

from prepserver.ai.frames import (
    HEADER,
    MAX_FRAME,
    Alive,
    Cancel,
    Configure,
    Done,
    Down,
    Event,
    Failed,
    Ready,
    Request,
    Up,
    decode_down,
    encode,
    pack,
)
from prepserver.errors import InferenceError

__all__ = ["Call", "Engine", "serve"]

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal to get when the parent dies."""


class Call:
    """One request, as the engine that works on it sees it."""

    def __init__(self, request: Request, send: Callable[[Up], None]) -> None:
        self.id = request.id
        self.payload: Raw = request.payload
        self._send = send
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def alive(self) -> None:
        """Say that work goes on; to be called every few seconds at least."""
        self._send(Alive())


class Engine(Protocol):
    """Native code behind a request."""

    def run(self, call: Call) -> Generator[Struct, None, None]:
        """Work on a request; each value is sent as one event. Raises InferenceError.

        The generator is closed when the request is cancelled.
        """


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

    def read(self) -> Down:
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
        return decode_down(body)

    def send(self, frame: Up) -> None:
        data = memoryview(pack(frame))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._out, data) :]
            except BrokenPipeError:
                os._exit(0)


class Desk:
    """The requests that wait and the one that is worked on."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._waiting: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()

    def read(self) -> None:
        """Take in frames until the server is gone, then end the process."""
        try:
            while True:
                match self._pipe.read():
                    case Request() as request:
                        call = Call(request, self._pipe.send)
                        with self._lock:
                            self._calls[call.id] = call
                        self._waiting.put(call)
                    case Cancel(id=number):
                        with self._lock:
                            cancelled = self._calls.get(number)
                        if cancelled is not None:
                            cancelled.cancel()
                    case Configure():
                        break
        except (EOFError, OSError):
            pass
        except DecodeError:
            traceback.print_exc()
        # Native code may be deep in a computation that nobody wants any more.
        os._exit(0)

    def work(self, engine: Engine) -> None:
        """Answer requests, first come, first served, for ever."""
        while True:
            call = self._waiting.get()
            try:
                last = self._answer(engine, call)
            finally:
                with self._lock:
                    del self._calls[call.id]
            self._pipe.send(last)

    def _answer(self, engine: Engine, call: Call) -> Up:
        try:
            if not call.cancelled:
                with closing(engine.run(call)) as events:
                    for event in events:
                        if call.cancelled:
                            break
                        self._pipe.send(Event(call.id, encode(event)))
        except InferenceError as error:
            return _failed(call.id, error)
        except Exception as error:
            traceback.print_exc()
            return _failed(call.id, InferenceError(f"The engine failed: {error}"))
        return Done(call.id)


def serve(load: Callable[[Raw], tuple[Struct, Engine]]) -> None:
    """Run an engine on standard input and output until the server goes away.

    `load` gets the options of the `Configure` frame and gives back what is told of the engine,
    and the engine; it raises InferenceError when the engine cannot be loaded.
    """
    _end_with_parent()
    pipe = Pipe()
    try:
        first = pipe.read()
    except EOFError:
        return
    if not isinstance(first, Configure):
        raise SystemExit("the first frame must be Configure")
    desk = Desk(pipe)
    threading.Thread(target=desk.read, name="frames", daemon=True).start()
    try:
        info, engine = load(first.options)
    except Exception as error:
        if not isinstance(error, InferenceError):
            traceback.print_exc()
            error = InferenceError(
                f"The engine cannot be loaded: {error}", code="model_not_loaded", retryable=False
            )
        pipe.send(_failed(0, error))
        return
    pipe.send(Ready(encode(info)))
    desk.work(engine)


def _failed(number: int, error: InferenceError) -> Failed:
    return Failed(
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
