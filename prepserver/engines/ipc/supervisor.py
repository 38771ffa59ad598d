"""One supervised process per native engine.

Native code crashes, hangs and prints. It does so in a process of its own: here it is started,
spoken to, watched, ended, and started again. A process that dies costs the requests in flight
one retry; the next request starts another.
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
    encode,
)
from prepserver.engines.ipc.process import Answers, EngineProcess, died, reported
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["NATIVE_ENVIRONMENT", "EngineSupervisor"]

NATIVE_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}
"""For engines that compute with OpenMP. By default its threads spin while they wait for each
other; as soon as anything else wants a processor that is ten times slower (measured on two busy
cores, a 135M model: 1 to 3 tokens/s, against 13 to 30 when they sleep)."""

FIRST_BACKOFF = 0.1
"""Seconds before the first restart; doubles with each death until a request is answered."""
MAX_BACKOFF = 5.0


class EngineSupervisor:
    """An engine in a process of its own, started when it is needed."""

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
        """`argv` runs `prepserver.engines.ipc.runner.serve`; `options` configures the engine.
        `environment` is added to this process's own, which wins where both say something.

        Times in seconds: until the engine is loaded; without a sign of life while requests wait;
        between the request to end and the signal that cannot be refused.
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
        self._deaths = 0
        self._next_id = 1
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the engine's process, while there is one."""
        process = self._process
        return process.pid if process is not None and process.cause is None else None

    async def start(self) -> Raw:
        """Start the engine unless it runs, wait until it is loaded; what it says of itself.

        Raises InferenceError: `model_not_loaded` when it cannot be loaded, and trying again
        would not help.
        """
        return (await self._ready()).info

    async def request(
        self, payload: Struct, feed: AsyncIterable[Struct] | None = None
    ) -> AsyncGenerator[Raw, None]:
        """The events that answer a request, in msgpack; `feed` is input that comes later.

        Closing the generator cancels the request. Raises InferenceError: what the engine
        reports, or `worker_died`; and whatever `feed` raises.
        """
        process = await self._ready()
        number, self._next_id = self._next_id, self._next_id + 1
        events = process.open(number)
        finished = False
        feeding: asyncio.Task[None] | None = None
        try:
            await process.send(RequestFrame(number, encode(payload)))
            if feed is not None:
                feeding = asyncio.create_task(_feed(process, number, feed, events))
            while True:
                match await events.get():
                    case EventFrame(payload=event):
                        yield event
                    case DoneFrame():
                        finished = True
                        self._deaths = 0
                        return
                    case FailedFrame() as failed:
                        finished = True
                        raise reported(failed)
                    case Exception() as error:
                        finished = process.cause is not None
                        raise error
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            process.forget(number, cancel=not finished)

    async def close(self) -> None:
        """End the process. Requests in flight, and later ones, raise InferenceError."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._process is not None:
            await self._process.end("was closed")

    # --- Starting -----------------------------------------------------------------------------

    async def _ready(self) -> EngineProcess:
        if self._closed:
            raise InferenceError(
                f"The {self._name} was closed.", code=ErrorCode.WORKER_CLOSED, retryable=False
            )
        process = self._process
        if process is not None and process.cause is None:
            return process
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        starting = self._starting
        try:
            # One caller that gives up must not take the others' engine away.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise died(self._name, "was closed") from None
            raise

    def _started(self, task: asyncio.Task[EngineProcess]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # every caller that waits raises it; there may be none left

    async def _start(self) -> EngineProcess:
        if self._process is not None:
            self._deaths += 1
            await self._process.end("died")
            self._process = None
        if self._deaths:
            await self._clock.sleep(min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** (self._deaths - 1)))
        try:
            process = await EngineProcess.spawn(
                self._argv, self._environment, self._name, self._clock, self._grace
            )
            try:
                await process.load(self._options, self._ready_timeout)
            except BaseException:
                await process.end("did not load")
                raise
        except InferenceError:
            self._deaths += 1
            raise
        process.watch(self._stall_timeout)
        self._process = process
        return process


async def _feed(
    process: EngineProcess, number: int, feed: AsyncIterable[Struct], events: Answers
) -> None:
    try:
        async for part in feed:
            await process.send(InputFrame(number, encode(part)))
        await process.send(EndOfInputFrame(number))
    except Exception as error:
        events.put_nowait(error)
