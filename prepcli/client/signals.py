"""Runs asynchronous work in the foreground so that it can be ended cleanly from outside."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_until_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Asked to end, or the terminal window was closed."""

_T = TypeVar("_T")


def run_until_signal(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of the work. SIGTERM and SIGHUP cancel it first and then raise SystemExit with
    128 and the signal's number, as shells count; Ctrl-C raises KeyboardInterrupt likewise."""
    received: list[int] = []

    async def supervised() -> _T:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, end, number)
        return await work

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
