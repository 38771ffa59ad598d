"""Replies that several calls share: equal ones in flight, and those that are kept for a while.

Equal means the same user, the same model and the same prompt with every setting of the sampling,
the seed among them; so sharing changes nothing but the time that it takes. Replies are kept in
memory only: what a candidate said has no second copy on disk, and a restart forgets it.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Literal

import msgspec
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.types import Prompt, TextDelta, Usage
from prepserver.errors import InferenceError, PrepServerError
from prepserver.telemetry.calls import CallStats
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ReplyCache", "SharedReply", "key_of"]

MOST_BYTES = 16 * 1024 * 1024
"""Of kept replies; those that were not asked for the longest go first."""
OVERHEAD = 500
"""Bytes that a kept reply takes beyond its text."""

Events = AsyncGenerator[TextDelta | Usage, None]


def key_of(user: str, model: str, prompt: Prompt) -> bytes:
    """What makes two requests equal. Whose cached prefix they go on from does not."""
    request = msgspec.structs.replace(prompt, conversation="")
    return hashlib.sha256(msgspec.msgpack.encode((user, model, request))).digest()


class SharedReply(Struct, frozen=True, kw_only=True):
    """One call's view of a reply."""

    events: Events
    effort: CallStats
    """Of the computation behind it; empty when there is none."""
    shared: Literal["", "cache", "flight"]


class _Kept(Struct, frozen=True, kw_only=True):
    text: str
    usage: Usage
    model: str
    interview: str
    until: float
    """On the monotonic clock."""

    @property
    def size(self) -> int:
        return len(self.text.encode()) + OVERHEAD

    async def events(self) -> Events:
        if self.text:
            yield TextDelta(self.text)
        yield self.usage


class ReplyCache:
    """Those that are being computed, and those that are kept."""

    def __init__(self, clock: Clock, *, most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._flights: dict[bytes, InFlightReply] = {}
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0

    def read(
        self, key: bytes, interview: str, keep: float, compute: Callable[[CallStats], Events]
    ) -> SharedReply:
        """A reply that is kept, or in flight, or else computed now and then kept for so many
        seconds; 0 keeps and takes nothing kept.

        The computation ends when the last who reads it leaves.
        """
        kept = self._fresh(key) if keep else None
        if kept is not None:
            effort = CallStats(model=kept.model)
            return SharedReply(events=kept.events(), effort=effort, shared="cache")
        flight = self._flights.get(key)
        if flight is not None:
            return SharedReply(events=flight.read(), effort=flight.effort, shared="flight")

        def ended(flight: InFlightReply) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if keep and flight.whole and not flight.effort.step:
                self._keep(key, interview, keep, flight)

        effort = CallStats()
        flight = self._flights[key] = InFlightReply(compute(effort), effort, ended)
        return SharedReply(events=flight.read(), effort=effort, shared="")

    def forget(self, interview: str) -> None:
        """Drop what is kept of an interview."""
        for key in [key for key, kept in self._kept.items() if kept.interview == interview]:
            self._drop(key)

    def _fresh(self, key: bytes) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= self._clock.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def _keep(self, key: bytes, interview: str, seconds: float, flight: "InFlightReply") -> None:
        usage = flight.events[-1]
        assert isinstance(usage, Usage)
        self._drop(key)
        kept = self._kept[key] = _Kept(
            text="".join(event.text for event in flight.events if isinstance(event, TextDelta)),
            usage=msgspec.structs.replace(usage, cached_tokens=usage.prompt_tokens, seconds=0.0),
            model=flight.effort.model,
            interview=interview,
            until=self._clock.monotonic() + seconds,
        )
        self._bytes += kept.size
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._bytes -= kept.size


class InFlightReply:
    """A reply that is being computed, for all who read it."""

    def __init__(
        self, source: Events, effort: CallStats, ended: Callable[["InFlightReply"], None]
    ) -> None:
        self.effort = effort
        self.events: list[TextDelta | Usage] = []
        self.whole = False
        """Came to its Usage without an error."""
        self._source = source
        self._ended = ended
        self._over = False
        self._error: Exception | None = None
        self._more = asyncio.Event()
        self._readers = 0
        self._computing: asyncio.Task[None] | None = None

    async def read(self) -> Events:
        """All events from the first; whoever comes late gets what was said already at once."""
        self._readers += 1
        if self._computing is None:
            self._computing = asyncio.create_task(self._compute())
        position = 0
        try:
            while True:
                more = self._more
                while position < len(self.events):
                    position += 1
                    yield self.events[position - 1]
                if self._over:
                    break
                await more.wait()
        finally:
            self._readers -= 1
            if not self._readers and not self._over:
                self._ended(self)  # nobody joins what is being given up
                self._computing.cancel()
                await asyncio.wait({self._computing})
        if self._error is not None:
            raise _copied(self._error)

    async def _compute(self) -> None:
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    self.events.append(event)
                    self._wake()
            self.whole = bool(self.events) and isinstance(self.events[-1], Usage)
        except asyncio.CancelledError:
            self._error = InferenceError(
                "The reply was given up. Try again.", code=ErrorCode.GIVEN_UP
            )
            raise
        except Exception as error:
            self._error = error
        finally:
            self._over = True
            self._ended(self)
            self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()


def _copied(error: Exception) -> Exception:
    """The same error for each who reads: a raised one collects its own traceback."""
    if not isinstance(error, PrepServerError):
        return error
    return type(error)(
        error.message, code=error.code, retryable=error.retryable, details=error.details
    )
