"""An engine's process is started, spoken to, watched, ended, and started again."""

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

from prepserver.engines.ipc.frames import HEADER
from prepserver.engines.ipc.supervisor import EngineSupervisor
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.echo_worker import Echo, EchoOptions, Order
from tests.support.skipping_clock import SkippingClock

ECHO = (sys.executable, "-P", str(Path(__file__).parents[3] / "support" / "echo_worker.py"))

READY = 1_000.0
STALL = 500.0
GRACE = 50.0


@asynccontextmanager
async def echoing(
    clock: SkippingClock | None = None,
    options: EchoOptions | None = None,
    argv: tuple[str, ...] = ECHO,
) -> AsyncIterator[EngineSupervisor]:
    worker = EngineSupervisor(
        argv,
        name="echo",
        options=options or EchoOptions(),
        clock=clock or SkippingClock(skip=10),
        ready_timeout=READY,
        stall_timeout=STALL,
        grace=GRACE,
    )
    try:
        yield worker
    finally:
        await worker.close()


async def ask(worker: EngineSupervisor, verb: str, *words: str) -> list[str]:
    return [text async for text in answers(worker, verb, *words)]


async def answers(worker: EngineSupervisor, verb: str, *words: str) -> AsyncIterator[str]:
    async with aclosing(worker.request(Order(verb, words))) as events:
        async for event in events:
            yield msgspec.msgpack.decode(event, type=Echo).text


async def exhaust(events: AsyncIterator[Raw]) -> None:
    async for _ in events:
        pass


def gone(pid: int, within: float = 20.0) -> bool:
    """Whether the process ends in time; it is watched, not polled."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within)[0])
    finally:
        os.close(handle)


def test_start_gives_what_the_engine_says_of_itself() -> None:
    """The options reach the engine and its description comes back."""

    async def scenario() -> None:
        async with echoing(options=EchoOptions(name="polly")) as worker:
            assert worker.pid is None
            info = await worker.start()
            assert msgspec.msgpack.decode(info, type=Echo) == Echo("polly")
            assert worker.pid not in (None, os.getpid())

    asyncio.run(scenario())


def test_a_request_starts_the_engine_and_is_answered_in_order() -> None:
    """Without an explicit start, the first request starts the engine."""

    async def scenario() -> None:
        async with echoing() as worker:
            assert await ask(worker, "say", "one", "two", "three") == ["one", "two", "three"]

    asyncio.run(scenario())


def test_requests_at_the_same_time_share_one_engine_and_do_not_mix() -> None:
    """Answers find the request they belong to, and one process is started for all."""

    async def scenario() -> None:
        async with echoing() as worker:
            results = await asyncio.gather(*(ask(worker, "say", *"ab", str(n)) for n in range(8)))
            assert results == [["a", "b", str(n)] for n in range(8)]

    asyncio.run(scenario())


def test_what_an_engine_prints_does_not_land_between_frames() -> None:
    """Standard output of native code goes where errors go."""

    async def scenario() -> None:
        async with echoing() as worker:
            assert await ask(worker, "print") == ["printed"]
            assert await ask(worker, "say", "on") == ["on"]

    asyncio.run(scenario())


def test_an_engine_that_refuses_keeps_running() -> None:
    """An engine's own error arrives as it was raised, after the events before it."""

    async def scenario() -> None:
        async with echoing() as worker:
            await worker.start()
            pid = worker.pid
            refusing = answers(worker, "refuse")
            assert await anext(refusing) == "first"
            with pytest.raises(InferenceError, match="I refuse") as caught:
                await anext(refusing)
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.INFERENCE, False)
            with pytest.raises(InferenceError, match="broken") as caught:
                await ask(worker, "break")
            assert (caught.value.code, caught.value.retryable) == ("inference", True)
            assert await ask(worker, "say", "still here") == ["still here"]
            assert worker.pid == pid

    asyncio.run(scenario())


def test_closing_a_request_stops_the_engine_at_once() -> None:
    """An endless answer ends when nobody listens, and the next request is served."""

    async def scenario() -> None:
        async with echoing() as worker:
            async with aclosing(worker.request(Order("count"))) as events:
                async for _ in events:
                    break
            assert await ask(worker, "cancelled") == ["1"]

    asyncio.run(scenario())


def test_a_request_cancelled_while_it_waits_is_never_begun() -> None:
    """Cancelling one that stands in the queue takes it out of the queue."""

    async def scenario() -> None:
        async with echoing() as worker:
            async with aclosing(worker.request(Order("count"))) as counting:
                await anext(counting)
                waiting = asyncio.create_task(ask(worker, "kill"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
            assert await ask(worker, "say", "alive") == ["alive"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("verb", "cause"),
    [("exit", "exit code 3: the floor gave way"), ("kill", "signal 9"), ("garbage", "not a frame")],
)
def test_death_fails_what_is_in_flight_and_the_next_request_restarts(verb: str, cause: str) -> None:
    """Whoever was being served and whoever waited get a retryable error that names the cause."""

    async def scenario() -> None:
        async with echoing() as worker:
            await worker.start()
            pid = worker.pid
            got: list[str] = []

            async def served() -> None:
                async for text in answers(worker, verb):
                    got.append(text)

            failures = await asyncio.gather(
                served(), ask(worker, "say", "never"), return_exceptions=True
            )
            assert got == ["first"]
            for failure in failures:
                assert isinstance(failure, InferenceError)
                assert (failure.code, failure.retryable) == ("worker_died", True)
                assert cause in failure.message
            assert worker.pid is None
            assert await ask(worker, "say", "again") == ["again"]
            assert worker.pid != pid

    asyncio.run(scenario())


def test_restarts_wait_longer_each_time_until_a_request_is_answered() -> None:
    """0.1 s, doubling to 5 s at most; an answered request begins the count anew."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echoing(clock) as worker:
            for _ in range(8):
                with pytest.raises(InferenceError):
                    await ask(worker, "kill")
            assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
            clock.slept.clear()
            await ask(worker, "say", "fine")
            with pytest.raises(InferenceError):
                await ask(worker, "kill")
            await ask(worker, "say", "fine")
            assert clock.slept == pytest.approx([5.0, 0.1])

    asyncio.run(scenario())


def test_an_engine_that_hangs_is_killed_when_its_time_is_up() -> None:
    """Silence while a request waits counts as death; silence before that does not."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echoing(clock) as worker:
            await worker.start()
            clock.advance(STALL * 3)
            assert await ask(worker, "say", "patient") == ["patient"]
            stream = answers(worker, "hang")
            assert await anext(stream) == "first"
            pid = worker.pid
            assert pid is not None
            clock.advance(STALL - 1)
            await asyncio.sleep(0)
            assert worker.pid == pid
            clock.advance(1)
            with pytest.raises(InferenceError, match="no sign of life for 500 s") as caught:
                await anext(stream)
            assert (caught.value.code, caught.value.retryable) == ("worker_died", True)
            assert gone(pid)
            assert await ask(worker, "say", "again") == ["again"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (EchoOptions(load_error="The file is a recipe."), "The file is a recipe"),
        (EchoOptions(load_exit=2), "exit code 2: no such library"),
    ],
)
def test_an_engine_that_cannot_load_says_why_and_is_not_started_again_by_itself(
    options: EchoOptions, cause: str
) -> None:
    """One attempt for each time it is asked for, each with the cause."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echoing(clock, options) as worker:
            for _ in range(2):
                with pytest.raises(InferenceError, match=cause) as caught:
                    await worker.start()
                assert (caught.value.code, caught.value.retryable) == ("model_not_loaded", False)
            assert worker.pid is None
            assert clock.slept == [0.1]

    asyncio.run(scenario())


def test_an_engine_that_is_never_ready_is_given_up() -> None:
    """Loading has its own time-out, after which the process is gone."""

    async def scenario() -> None:
        clock = SkippingClock()
        async with echoing(clock, EchoOptions(load_hang=True)) as worker:
            starting = asyncio.create_task(worker.start())
            await clock.sleeper(READY)
            clock.advance(READY)
            await clock.sleeper(GRACE)
            clock.advance(GRACE)
            with pytest.raises(InferenceError, match="not ready after 1000 s") as caught:
                await starting
            assert caught.value.code == ErrorCode.MODEL_NOT_LOADED

    asyncio.run(scenario())


def test_a_program_that_does_not_exist_is_an_inference_error() -> None:
    """No exception of the operating system gets out."""

    async def scenario() -> None:
        async with echoing(argv=("/nonexistent/engine",)) as worker:
            with pytest.raises(InferenceError, match="cannot be started") as caught:
                await worker.start()
            assert caught.value.code == ErrorCode.MODEL_NOT_LOADED

    asyncio.run(scenario())


def test_a_program_that_is_no_engine_is_an_inference_error() -> None:
    """Garbage instead of the first frame does not leave anybody waiting."""

    async def scenario() -> None:
        program = "import time; print('Hello, I am a text editor', flush=True); time.sleep(600)"
        async with echoing(argv=(sys.executable, "-c", program)) as worker:
            with pytest.raises(InferenceError, match="not a frame"):
                await worker.start()

    asyncio.run(scenario())


def test_close_ends_the_process_and_later_requests_fail() -> None:
    """After close nothing runs and nothing starts."""

    async def scenario() -> None:
        async with echoing() as worker:
            await worker.start()
            pid = worker.pid
            assert pid is not None
            async with aclosing(worker.request(Order("count"))) as counting:
                await anext(counting)
                await worker.close()
                with pytest.raises(InferenceError, match="was closed"):
                    await exhaust(counting)
            assert gone(pid)
            with pytest.raises(InferenceError) as caught:
                await ask(worker, "say", "no")
            assert (caught.value.code, caught.value.retryable) == ("worker_closed", False)

    asyncio.run(scenario())


def test_close_while_the_engine_loads_gives_up_loading() -> None:
    """Whoever waits for the engine is told; its process does not stay behind."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echoing(clock, EchoOptions(load_hang=True)) as worker:
            starting = asyncio.create_task(worker.start())
            await clock.sleeper(READY)
            await worker.close()
            with pytest.raises(InferenceError, match="was closed"):
                await starting

    asyncio.run(scenario())


def test_close_kills_an_engine_that_does_not_let_go() -> None:
    """A stopped process cannot see the pipe close; after the grace it is killed."""

    async def scenario() -> None:
        clock = SkippingClock(skip=10)
        async with echoing(clock) as worker:
            await worker.start()
            pid = worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            closing = asyncio.create_task(worker.close())
            await clock.sleeper(GRACE)
            clock.advance(GRACE)
            await closing
            assert gone(pid)

    asyncio.run(scenario())


def test_an_engine_ends_with_the_server() -> None:
    """A server that is killed leaves no engine behind, not even one that is hanging."""
    program = (
        "import asyncio, sys\n"
        "from tests.server.engines.ipc.test_supervisor import Order, echoing\n"
        "async def main():\n"
        "    async with echoing() as worker:\n"
        "        await anext(worker.request(Order('hang')))\n"
        "        print('pid', worker.pid, flush=True)\n"
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
        assert gone(pid)


def test_an_engine_ends_when_its_pipe_ends() -> None:
    """End of input alone, with the parent alive, ends an engine that computes."""
    with subprocess.Popen(ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        configure = msgspec.msgpack.encode({"type": "configure", "options": {"load_hang": True}})
        engine.stdin.write(HEADER.pack(len(configure)) + configure)
        engine.stdin.close()
        assert engine.wait(timeout=20) == 0
