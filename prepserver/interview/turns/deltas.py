"""Deltas of a reply for clients, gathered from a model's token stream."""

import asyncio
from collections.abc import AsyncGenerator

from prepserver.clock import Clock
from prepserver.engines.types import TextDelta, Usage

__all__ = ["DELTA_INTERVAL", "coalesce_deltas", "first_question"]

DELTA_INTERVAL = 0.08
"""Minimum number of seconds between two deltas. Tokens that arrive in between share the next delta.
Twelve deltas a second look smooth, and the client that draws them may share its CPU with the model.
"""


async def first_question(pieces: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Yield the reply up to its first question mark.

    A model without a grammar may continue after the question mark. Further text ends this
    generator, so that the caller can close the model call.
    """
    async for piece in pieces:
        head, mark, _ = piece.partition("?")
        yield head + mark
        if mark:
            break
    async for piece in pieces:
        if piece.strip():
            return


async def coalesce_deltas(
    events: AsyncGenerator[TextDelta | Usage, None], opening: str, clock: Clock
) -> AsyncGenerator[str, None]:
    """Yield the text of a reply as deltas that are at least `DELTA_INTERVAL` seconds apart.

    `opening` is the part of the reply that the prompt already contains. The opening, the first text
    from the model and the end of the reply are yielded without delay.
    """

    async def next_event() -> TextDelta | Usage | None:
        return await anext(events, None)

    if opening:
        yield opening.lstrip()
    started, pending, last = bool(opening), "", -DELTA_INTERVAL
    upcoming: asyncio.Task[TextDelta | Usage | None] | None = None
    timer: asyncio.Task[None] | None = None
    try:
        while True:
            if pending:
                upcoming = upcoming or asyncio.create_task(next_event())
                timer = timer or asyncio.create_task(
                    clock.sleep(last + DELTA_INTERVAL - clock.monotonic())
                )
                await asyncio.wait({upcoming, timer}, return_when=asyncio.FIRST_COMPLETED)
                if not upcoming.done():
                    yield pending
                    pending, last, timer = "", clock.monotonic(), None
                    continue
                event, upcoming = upcoming.result(), None
            elif upcoming is not None:
                event, upcoming = await upcoming, None
            else:
                event = await anext(events, None)  # no text is pending, so no timer is needed
            if event is None:
                break
            if isinstance(event, TextDelta):
                pending += event.text if started else event.text.lstrip()
                started = started or bool(pending)
                if pending and clock.monotonic() - last >= DELTA_INTERVAL:
                    if timer is not None:
                        timer.cancel()
                    yield pending
                    pending, last, timer = "", clock.monotonic(), None
        if pending:
            yield pending
    finally:
        unfinished = [task for task in (upcoming, timer) if task is not None]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
