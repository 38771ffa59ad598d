"""Clean shutdown of asynchronous work on SIGTERM and SIGHUP."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_until_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end the program; SIGHUP means that the terminal window was closed."""

_T = TypeVar("_T")


def run_until_signal(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine and return its result.

    SIGTERM and SIGHUP cancel the coroutine and then raise SystemExit with 128 plus the signal's
    number, the convention of shells. Ctrl-C cancels the coroutine and then raises
    KeyboardInterrupt.
    """
    received: list[int] = []

    async def supervise() -> _T:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def cancel(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, cancel, number)
        return await work

    try:
        return asyncio.run(supervise())
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
