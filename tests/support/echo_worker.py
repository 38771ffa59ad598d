"""Engine without a model, in which each request names the engine's behaviour, such as a failure."""

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
    """Message of an InferenceError to raise while loading; empty to load normally."""
    load_exit: int | None = None
    """Exit code with which the process ends while loading; None to load normally."""
    load_hang: bool = False


class EchoRequest(Struct, frozen=True):
    """Action of `EchoEngine.run` with its arguments."""

    verb: str
    words: tuple[str, ...] = ()


class Echo(Struct, frozen=True):
    text: str


class SequentialEngine:
    """Engine that processes one request after another, each with a generator of events."""

    def __init__(self, run: Callable[[EngineCall], Generator[Struct, None, None]]) -> None:
        """Create an engine that closes the generator of a request when the request is cancelled."""
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
        request = msgspec.msgpack.decode(call.payload, type=EchoRequest)
        match request.verb:
            case "say":
                for word in request.words:
                    yield Echo(word)
            case "print":
                os.write(1, b"stray output\n")
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
                os.write(_frame_descriptor(call), b"Segmentation fault, said the library\n")
                threading.Event().wait()

    def _count(self, call: EngineCall) -> Generator[Echo, None, None]:
        number = 0
        try:
            while not call.cancelled:
                yield Echo(str(number))
                number += 1
        finally:
            self.cancelled += 1


def _frame_descriptor(call: EngineCall) -> int:
    """Return the file descriptor to which the engine writes its frames."""
    pipe = call._send.__self__  # type: ignore[attr-defined]
    assert isinstance(pipe._out, int)
    return pipe._out


def load(raw_options: Raw) -> tuple[Struct, SequentialEngine]:
    options = msgspec.msgpack.decode(raw_options, type=EchoOptions)
    if options.load_error:
        raise InferenceError(options.load_error, code=ErrorCode.MODEL_NOT_LOADED, retryable=False)
    if options.load_exit is not None:
        os.write(2, b"no such library\n")
        os._exit(options.load_exit)
    if options.load_hang:
        threading.Event().wait()
    return Echo(options.name), SequentialEngine(EchoEngine().run)


if __name__ == "__main__":
    serve(load)
