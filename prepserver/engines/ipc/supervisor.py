"""Supervision of native engines, each in a process of its own.

Native code may crash, hang or print. The supervisor starts the process, exchanges frames with it,
watches it, and restarts it. A crash fails the requests in flight with a retryable error; the next
request starts a new process.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence

from msgspec import Raw, Struct

from prepserver.clock import Clock
from prepserver.engines.ipc.frames import (
    DoneFrame,
    EndOfInputFrame,
    EventFrame,
    FailedFrame,
    InputFrame,
    RequestFrame,
    encode_payload,
)
from prepserver.engines.ipc.process import (
    CLOSED,
    EngineProcess,
    ReplyQueue,
    closed_message,
    to_inference_error,
    worker_died,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["NATIVE_ENVIRONMENT", "EngineSupervisor"]

NATIVE_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}
"""Environment variables for engines that compute with OpenMP. By default, OpenMP's threads spin
while they wait for each other. Spinning threads are ten times slower than sleeping ones as soon as
another process needs a processor: a 135M model on two busy cores generated 1 to 3 tokens/s with
spinning threads, and 13 to 30 with sleeping threads."""

INITIAL_BACKOFF = 0.1
"""Delay in seconds before a restart after the first crash or failed start. Each further crash or
failed start doubles the delay; a successful request resets the delay."""
MAX_BACKOFF = 5.0
"""Maximum delay before a restart, in seconds."""


class EngineSupervisor:
    """Supervisor of one engine in a child process, which is started by `start` or the first
    request."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        options: Struct,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        ready_timeout: float = 300.0,
        stall_timeout: float = 120.0,
        grace: float = 3.0,
    ) -> None:
        """Configure the engine; nothing is started yet.

        `argv` is the command line of a program that calls `prepserver.engines.ipc.runner.serve`.
        `name` appears in error messages. `environment` supplies defaults for variables that this
        process does not set.

        Three timeouts are in seconds: `ready_timeout` for loading, `stall_timeout` for the silence
        of an engine with open requests, and `grace` for the time between closing the pipe and
        SIGKILL.
        """
        self._argv = tuple(argv)
        self._name = name
        self._options = options
        self._clock = clock
        self._environment = {**(environment or {}), **os.environ}
        self._ready_timeout = ready_timeout
        self._stall_timeout = stall_timeout
        self._grace = grace
        self._process: EngineProcess | None = None
        self._starting: asyncio.Task[EngineProcess] | None = None
        self._crashes = 0
        self._next_id = 1
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the engine; None unless the engine is loaded and running."""
        process = self._process
        return process.pid if process is not None and process.cause is None else None

    async def start(self) -> Raw:
        """Start the engine unless it is running, wait until it is loaded, and return the engine's
        description of itself.

        Raises InferenceError with the code `model_not_loaded` (a retry would not help),
        `worker_died` or, after `close`, `worker_closed`.
        """
        return (await self._running_process()).info

    async def request(
        self, payload: Struct, inputs: AsyncIterable[Struct] | None = None
    ) -> AsyncGenerator[Raw, None]:
        """Send a request and yield the events of its reply, encoded in msgpack.

        The engine is started if necessary. `inputs` yields further input while the request is open.
        Closing the generator cancels the request. Raises the errors of `start`, InferenceError
        (code `request_too_long`) if a frame would be too long, the InferenceError that the engine
        reports, and whatever `inputs` raises.
        """
        process = await self._running_process()
        id, self._next_id = self._next_id, self._next_id + 1
        replies = process.open_request(id)
        ended = False
        sending: asyncio.Task[None] | None = None
        try:
            await process.send_command(RequestFrame(id, encode_payload(payload)))
            if inputs is not None:
                sending = asyncio.create_task(_send_inputs(process, id, inputs, replies))
            while True:
                match await replies.get():
                    case EventFrame(payload=event):
                        yield event
                    case DoneFrame():
                        ended = True
                        self._crashes = 0
                        return
                    case FailedFrame() as failed:
                        ended = True
                        raise to_inference_error(failed)
                    case Exception() as error:
                        ended = process.cause is not None
                        raise error
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            process.close_request(id, cancel=not ended)

    async def close(self) -> None:
        """End the engine's process. Requests in flight and later requests raise InferenceError."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._process is not None:
            await self._process.terminate(CLOSED)

    # --- Starting -----------------------------------------------------------------------------

    async def _running_process(self) -> EngineProcess:
        if self._closed:
            raise InferenceError(
                closed_message(self._name), code=ErrorCode.WORKER_CLOSED, retryable=False
            )
        process = self._process
        if process is not None and process.cause is None:
            return process
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_process())
            self._starting.add_done_callback(self._clear_starting)
        starting = self._starting
        try:
            # Shield: one cancelled caller must not cancel the start for the others.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise worker_died(self._name, CLOSED) from None
            raise

    def _clear_starting(self, task: asyncio.Task[EngineProcess]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # mark as retrieved: every caller may have been cancelled

    async def _start_process(self) -> EngineProcess:
        if self._process is not None:
            self._crashes += 1
            await self._process.terminate("died")
            self._process = None
        if self._crashes:
            await self._clock.sleep(min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** (self._crashes - 1)))
        try:
            process = await EngineProcess.spawn(
                self._argv, self._environment, self._name, self._clock, self._grace
            )
            try:
                await process.load(self._options, self._ready_timeout)
            except BaseException:
                await process.terminate("did not load")
                raise
        except InferenceError:
            self._crashes += 1
            raise
        process.start_watchdog(self._stall_timeout)
        self._process = process
        return process


async def _send_inputs(
    process: EngineProcess, id: int, inputs: AsyncIterable[Struct], replies: ReplyQueue
) -> None:
    try:
        async for each in inputs:
            await process.send_command(InputFrame(id, encode_payload(each)))
        await process.send_command(EndOfInputFrame(id))
    except Exception as error:
        replies.put_nowait(error)
