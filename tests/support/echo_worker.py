"""An engine without a model: it does what a request tells it to, good or bad."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing

import msgspec
from msgspec import Raw, Struct

from prepserver.engines.ipc.runner import EngineCall, serve
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode


class EchoOptions(Struct, frozen=True, kw_only=True):
    name: str = "echo"
    load_error: str = ""
    """Refuse to load, with these words."""
    load_exit: int | None = None
    """End while loading, with this code."""
    load_hang: bool = False


class Order(Struct, frozen=True):
    """What to do, and what with."""

    verb: str
    words: tuple[str, ...] = ()


class Echo(Struct, frozen=True):
    text: str


class Serial:
    """An engine that works on one request after the other, each by a generator of events."""

    def __init__(self, run: Callable[[EngineCall], Generator[Struct, None, None]]) -> None:
        """The generator is closed when its request is cancelled."""
        self._run = run
        self._waiting: deque[EngineCall] = deque()

    def submit(self, call: EngineCall) -> None:
        self._waiting.append(call)

    def run_step(self) -> bool:
        if not self._waiting:
            return False
        call = self._waiting.popleft()
        try:
            if not call.cancelled:
                with closing(self._run(call)) as events:
                    for event in events:
                        if call.cancelled:
                            break
                        call.send_event(event)
        except Exception as error:
            if not isinstance(error, InferenceError):
                error = InferenceError(f"The engine failed: {error}")
            call.fail(error)
        else:
            call.complete()
        return True


class EchoEngine:
    def __init__(self) -> None:
        self.cancelled = 0

    def run(self, call: EngineCall) -> Generator[Echo, None, None]:
        order = msgspec.msgpack.decode(call.payload, type=Order)
        match order.verb:
            case "say":
                for word in order.words:
                    yield Echo(word)
            case "print":
                os.write(1, b"this goes to nobody\n")
                yield Echo("printed")
            case "count":
                yield from self._count(call)
            case "cancelled":
                yield Echo(str(self.cancelled))
            case "refuse":
                yield Echo("first")
                raise InferenceError("I refuse.", code=ErrorCode.INFERENCE, retryable=False)
            case "break":
                raise KeyError("broken")
            case "exit":
                yield Echo("first")
                os.write(2, b"the floor gave way\n")
                os._exit(3)
            case "kill":
                yield Echo("first")
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                yield Echo("first")
                threading.Event().wait()
            case "garbage":
                yield Echo("first")
                os.write(_pipe(call), b"Segmentation fault, said the library\n")
                threading.Event().wait()

    def _count(self, call: EngineCall) -> Generator[Echo, None, None]:
        number = 0
        try:
            while not call.cancelled:
                yield Echo(str(number))
                number += 1
        finally:
            self.cancelled += 1


def _pipe(call: EngineCall) -> int:
    """Where frames are written: what a library would have to find to write between them."""
    pipe = call._send.__self__  # type: ignore[attr-defined]
    assert isinstance(pipe._out, int)
    return pipe._out


def load(options: Raw) -> tuple[Struct, Serial]:
    wanted = msgspec.msgpack.decode(options, type=EchoOptions)
    if wanted.load_error:
        raise InferenceError(wanted.load_error, code=ErrorCode.MODEL_NOT_LOADED, retryable=False)
    if wanted.load_exit is not None:
        os.write(2, b"no such library\n")
        os._exit(wanted.load_exit)
    if wanted.load_hang:
        threading.Event().wait()
    return Echo(wanted.name), Serial(EchoEngine().run)


if __name__ == "__main__":
    serve(load)
