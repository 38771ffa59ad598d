"""Waiting with a limit, in virtual time."""

import asyncio

import pytest

from prepserver.clock import wait_for
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous


@asynchronous
async def test_work_that_is_done_in_time_gives_its_result() -> None:
    """Nothing, too, is a result."""
    clock = ManualClock()

    async def work() -> None:
        await clock.sleep(2)

    waiting = asyncio.create_task(wait_for(clock, work(), 3))
    await clock.advance(0)
    await clock.advance(2)
    assert waiting.done()
    assert waiting.result() is None


@asynchronous
async def test_work_that_takes_too_long_is_cancelled() -> None:
    """At the limit and not before it, and only when it is over is whoever waits told."""
    clock = ManualClock()
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(clock.monotonic())

    waiting = asyncio.create_task(wait_for(clock, work(), 3))
    await clock.advance(0)
    await clock.advance(2.9)
    assert not waiting.done()
    await clock.advance(0.1)
    with pytest.raises(TimeoutError):
        await waiting
    assert cleaned == [3]


@asynchronous
async def test_work_that_is_shielded_outlives_the_limit() -> None:
    """For waiting again, or for somebody else who waits."""
    clock = ManualClock()
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_for(clock, asyncio.shield(outcome), 3))
    await clock.advance(0)
    await clock.advance(3)
    with pytest.raises(TimeoutError):
        await waiting
    assert not outcome.done()


@asynchronous
async def test_the_failure_of_the_work_is_what_is_raised() -> None:
    """As it is, without the wait for the limit."""

    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await wait_for(ManualClock(), work(), 3)
