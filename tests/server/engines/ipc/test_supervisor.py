"""Start, supervision, restart and end of an engine's process."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from prepserver.engines.ipc.frames import FRAME_HEADER
from prepserver.engines.ipc.supervisor import EngineSupervisor
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.echo_worker import Echo, EchoOptions, EchoRequest
from tests.support.skipping_clock import SkippingClock

ECHO_ARGV = (sys.executable, "-P", str(Path(__file__).parents[3] / "support" / "echo_worker.py"))

READY_TIMEOUT = 1_000.0
STALL_TIMEOUT = 500.0
GRACE = 50.0


@asynccontextmanager
async def echo_supervisor(
    clock: SkippingClock | None = None,
    options: EchoOptions | None = None,
    argv: tuple[str, ...] = ECHO_ARGV,
) -> AsyncIterator[EngineSupervisor]:
    supervisor = EngineSupervisor(
        argv,
        name="echo",
        options=options or EchoOptions(),
        clock=clock or SkippingClock(skip=10),
        ready_timeout=READY_TIMEOUT,
        stall_timeout=STALL_TIMEOUT,
        grace=GRACE,
    )
    try:
        yield supervisor
    finally:
        await supervisor.close()


async def collect_texts(supervisor: EngineSupervisor, verb: str, *words: str) -> list[str]:
    return [text async for text in stream_texts(supervisor, verb, *words)]


async def stream_texts(supervisor: EngineSupervisor, verb: str, *words: str) -> AsyncIterator[str]:
    async with aclosing(supervisor.request(EchoRequest(verb, words))) as events:
        async for event in events:
            yield msgspec.msgpack.decode(event, type=Echo).text


async def drain(events: AsyncIterator[Raw]) -> None:
    async for _ in events:
        pass


def has_exited(pid: int, timeout: float = 20.0) -> bool:
    """Return True if the process exits within `timeout` seconds.

    The function waits without polling.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def test_start_returns_the_engines_description() -> None:
    """The supervisor passes its options to the engine, and `start` returns the engine's
    description."""

    async def scenario() -> None:
        async with echo_supervisor(options=EchoOptions(name="polly")) as supervisor:
            assert supervisor.pid is None
            info = await supervisor.start()
            assert msgspec.msgpack.decode(info, type=Echo) == Echo("polly")
            assert supervisor.pid not in (None, os.getpid())

    asyncio.run(scenario())


def test_the_first_request_starts_the_engine() -> None:
    """The first request starts the engine, and the events of the request arrive in order."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            texts = await collect_texts(supervisor, "say", "one", "two", "three")
            assert texts == ["one", "two", "three"]

    asyncio.run(scenario())


def test_concurrent_requests_share_one_engine() -> None:
    """Concurrent requests are served by one process, and each request receives only its own
    events."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            results = await asyncio.gather(
                *(collect_texts(supervisor, "say", *"ab", str(n)) for n in range(8))
            )
            assert results == [["a", "b", str(n)] for n in range(8)]

    asyncio.run(scenario())


def test_output_of_native_code_does_not_corrupt_frames() -> None:
    """Text that native code prints to standard output does not corrupt the engine's frames."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            assert await collect_texts(supervisor, "print") == ["printed"]
            assert await collect_texts(supervisor, "say", "on") == ["on"]

    asyncio.run(scenario())


def test_a_failed_request_leaves_the_engine_running() -> None:
    """A failed request delivers its earlier events, then the error; the same engine process serves
    the next request."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            await supervisor.start()
            pid = supervisor.pid
            refused = stream_texts(supervisor, "refuse")
            assert await anext(refused) == "first"
            with pytest.raises(InferenceError, match="I refuse") as caught:
                await anext(refused)
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.INFERENCE, False)
            with pytest.raises(InferenceError, match="broken") as caught:
                await collect_texts(supervisor, "break")
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.INFERENCE, True)
            assert await collect_texts(supervisor, "say", "still here") == ["still here"]
            assert supervisor.pid == pid

    asyncio.run(scenario())


def test_closing_a_request_cancels_it() -> None:
    """Closing the generator of an endless request cancels the request, and the engine serves the
    next request."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            async with aclosing(supervisor.request(EchoRequest("count"))) as events:
                async for _ in events:
                    break
            assert await collect_texts(supervisor, "cancelled") == ["1"]

    asyncio.run(scenario())


def test_a_request_cancelled_in_the_queue_never_runs() -> None:
    """A request that is cancelled while it waits in the queue never runs."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            async with aclosing(supervisor.request(EchoRequest("count"))) as counting:
                await anext(counting)
                queued = asyncio.create_task(collect_texts(supervisor, "kill"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                queued.cancel()
                await asyncio.wait([queued])
            assert await collect_texts(supervisor, "say", "alive") == ["alive"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("verb", "cause"),
    [("exit", "exit code 3: the floor gave way"), ("kill", "signal 9"), ("garbage", "not a frame")],
)
def test_a_crash_fails_open_requests_and_the_next_one_restarts(verb: str, cause: str) -> None:
    """When the engine crashes, running and queued requests fail with a retryable error that names
    the cause, and the next request restarts the engine."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            await supervisor.start()
            pid = supervisor.pid
            received: list[str] = []

            async def run_crashing_request() -> None:
                async for text in stream_texts(supervisor, verb):
                    received.append(text)

            failures = await asyncio.gather(
                run_crashing_request(),
                collect_texts(supervisor, "say", "never"),
                return_exceptions=True,
            )
            assert received == ["first"]
            for failure in failures:
                assert isinstance(failure, InferenceError)
                assert (failure.code, failure.retryable) == (ErrorCode.WORKER_DIED, True)
                assert cause in failure.message
            assert supervisor.pid is None
            assert await collect_texts(supervisor, "say", "again") == ["again"]
            assert supervisor.pid != pid

    asyncio.run(scenario())


def test_restarts_back_off_until_a_request_succeeds() -> None:
    """The delay before a restart is 0.1 s at first, doubles with each crash up to 5 s, and is reset
    by a successful request."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echo_supervisor(clock) as supervisor:
            for _ in range(8):
                with pytest.raises(InferenceError):
                    await collect_texts(supervisor, "kill")
            assert clock.sleeps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
            clock.sleeps.clear()
            await collect_texts(supervisor, "say", "fine")
            with pytest.raises(InferenceError):
                await collect_texts(supervisor, "kill")
            await collect_texts(supervisor, "say", "fine")
            assert clock.sleeps == pytest.approx([5.0, 0.1])

    asyncio.run(scenario())


def test_a_stalled_engine_is_killed() -> None:
    """An engine that is silent for the stall timeout is killed if requests are open, but not if it
    is idle."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echo_supervisor(clock) as supervisor:
            await supervisor.start()
            clock.advance(STALL_TIMEOUT * 3)
            assert await collect_texts(supervisor, "say", "patient") == ["patient"]
            texts = stream_texts(supervisor, "hang")
            assert await anext(texts) == "first"
            pid = supervisor.pid
            assert pid is not None
            clock.advance(STALL_TIMEOUT - 1)
            await asyncio.sleep(0)
            assert supervisor.pid == pid
            clock.advance(1)
            with pytest.raises(InferenceError, match="500 s") as caught:
                await anext(texts)
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.WORKER_DIED, True)
            assert has_exited(pid)
            assert await collect_texts(supervisor, "say", "again") == ["again"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (EchoOptions(load_error="The file is a recipe."), "The file is a recipe"),
        (EchoOptions(load_exit=2), "exit code 2: no such library"),
    ],
)
def test_a_load_failure_names_its_cause(options: EchoOptions, cause: str) -> None:
    """If the engine cannot be loaded, each start makes one attempt and fails with the cause, and no
    attempt is made between starts."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echo_supervisor(clock, options) as supervisor:
            for _ in range(2):
                with pytest.raises(InferenceError, match=cause) as caught:
                    await supervisor.start()
                assert caught.value.code == ErrorCode.MODEL_NOT_LOADED
                assert not caught.value.retryable
            assert supervisor.pid is None
            assert clock.sleeps == [0.1]

    asyncio.run(scenario())


def test_loading_times_out() -> None:
    """An engine that is not ready within the timeout is killed, and its start fails."""

    async def scenario() -> None:
        clock = SkippingClock()
        async with echo_supervisor(clock, EchoOptions(load_hang=True)) as supervisor:
            starting = asyncio.create_task(supervisor.start())
            await clock.wait_for_sleep(READY_TIMEOUT)
            clock.advance(READY_TIMEOUT)
            await clock.wait_for_sleep(GRACE)
            clock.advance(GRACE)
            with pytest.raises(InferenceError, match="1000 s") as caught:
                await starting
            assert caught.value.code == ErrorCode.MODEL_NOT_LOADED

    asyncio.run(scenario())


def test_a_missing_program_raises_an_inference_error() -> None:
    """Starting a program that does not exist raises an InferenceError instead of an OSError."""

    async def scenario() -> None:
        async with echo_supervisor(argv=("/nonexistent/engine",)) as supervisor:
            with pytest.raises(InferenceError) as caught:
                await supervisor.start()
            assert caught.value.code == ErrorCode.MODEL_NOT_LOADED

    asyncio.run(scenario())


def test_a_program_that_is_no_engine_raises_an_inference_error() -> None:
    """If the engine's program prints text instead of a frame, the start fails at once."""

    async def scenario() -> None:
        program = "import time; print('Hello, I am a text editor', flush=True); time.sleep(600)"
        async with echo_supervisor(argv=(sys.executable, "-c", program)) as supervisor:
            with pytest.raises(InferenceError, match="frame") as caught:
                await supervisor.start()
            assert caught.value.code == ErrorCode.WORKER_DIED

    asyncio.run(scenario())


def test_close_ends_the_process_and_fails_later_requests() -> None:
    """Closing the supervisor ends the engine's process, and makes running and later requests
    fail."""

    async def scenario() -> None:
        async with echo_supervisor() as supervisor:
            await supervisor.start()
            pid = supervisor.pid
            assert pid is not None
            async with aclosing(supervisor.request(EchoRequest("count"))) as counting:
                await anext(counting)
                await supervisor.close()
                with pytest.raises(InferenceError, match="stopping") as interrupted:
                    await drain(counting)
                assert interrupted.value.code == ErrorCode.WORKER_DIED
            assert has_exited(pid)
            with pytest.raises(InferenceError) as caught:
                await collect_texts(supervisor, "say", "no")
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.WORKER_CLOSED, False)

    asyncio.run(scenario())


def test_close_cancels_loading() -> None:
    """Closing the supervisor while the engine is loading fails the start."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echo_supervisor(clock, EchoOptions(load_hang=True)) as supervisor:
            starting = asyncio.create_task(supervisor.start())
            await clock.wait_for_sleep(READY_TIMEOUT)
            await supervisor.close()
            with pytest.raises(InferenceError, match="stopping") as caught:
                await starting
            assert caught.value.code == ErrorCode.WORKER_DIED

    asyncio.run(scenario())


def test_close_kills_an_unresponsive_engine() -> None:
    """An engine process that keeps running after its pipe is closed is killed after the grace
    period."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echo_supervisor(clock) as supervisor:
            await supervisor.start()
            pid = supervisor.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            closing = asyncio.create_task(supervisor.close())
            await clock.wait_for_sleep(GRACE)
            clock.advance(GRACE)
            await closing
            assert has_exited(pid)

    asyncio.run(scenario())


def test_an_engine_dies_with_the_server() -> None:
    """When the server is killed, its engine exits, even if a request is hanging."""
    program = (
        "import asyncio, sys\n"
        "from tests.server.engines.ipc.test_supervisor import EchoRequest, echo_supervisor\n"
        "async def main():\n"
        "    async with echo_supervisor() as supervisor:\n"
        "        await anext(supervisor.request(EchoRequest('hang')))\n"
        "        print('pid', supervisor.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        (sys.executable, "-c", program), stdout=subprocess.PIPE, cwd=root
    ) as server:
        assert server.stdout is not None
        lines = (line.split() for line in server.stdout)
        pid = next(int(line[1]) for line in lines if line[:1] == [b"pid"])
        server.kill()
        assert has_exited(pid)


def test_an_engine_exits_when_its_pipe_closes() -> None:
    """An engine exits when its input ends, even while it is loading and even if its parent process
    is alive."""
    with subprocess.Popen(ECHO_ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        configure = msgspec.msgpack.encode({"type": "configure", "options": {"load_hang": True}})
        engine.stdin.write(FRAME_HEADER.pack(len(configure)) + configure)
        engine.stdin.close()
        assert engine.wait(timeout=20) == 0
