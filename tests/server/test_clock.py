"""`wait_for` with an injected clock, in virtual time."""

import asyncio

import pytest

from prepserver.clock import wait_for
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous


@asynchronous
async def test_a_result_in_time_is_returned() -> None:
    """A result that arrives before the timeout is returned, even if the result is None."""
    clock = ManualClock()

    async def work() -> None:
        await clock.sleep(2)

    waiting = asyncio.create_task(wait_for(clock, work(), 3))
    await clock.advance(0)
    await clock.advance(2)
    assert waiting.done()
    assert waiting.result() is None


@asynchronous
async def test_a_timeout_cancels_the_awaitable() -> None:
    """At the timeout the awaitable is cancelled, and TimeoutError is raised after the awaitable's
    clean-up."""
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
async def test_a_shielded_awaitable_survives_the_timeout() -> None:
    """A shielded future is not cancelled by the timeout."""
    clock = ManualClock()
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_for(clock, asyncio.shield(outcome), 3))
    await clock.advance(0)
    await clock.advance(3)
    with pytest.raises(TimeoutError):
        await waiting
    assert not outcome.done()


@asynchronous
async def test_an_exception_of_the_awaitable_is_raised() -> None:
    """An exception that the awaitable raises before the timeout is raised unchanged."""

    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await wait_for(ManualClock(), work(), 3)
