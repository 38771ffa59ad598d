"""Reply cache: equal calls share one reply, which is in flight or complete and cached.

Calls are equal if they have the same user, model and prompt, including every sampling setting and
the seed; the prompt's `conversation` is ignored. Sharing therefore changes nothing but the latency.
Cached replies live in memory only: no second copy of what a candidate said is written to disk, and
a restart empties the cache.
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

__all__ = ["ReplyCache", "SharedReply", "request_key"]

MAX_BYTES = 16 * 1024 * 1024
"""Capacity of the cache in bytes; the least recently used replies are evicted first."""
ENTRY_OVERHEAD = 500
"""Bytes charged against `MAX_BYTES` for each cached reply, in addition to its text."""

Events = AsyncGenerator[TextDelta | Usage, None]


def request_key(user: str, model: str, prompt: Prompt) -> bytes:
    """Return a hash that is the same for equal requests.

    The prompt's `conversation` is left out, because it selects a cached prefix and does not affect
    the reply.
    """
    request = msgspec.structs.replace(prompt, conversation="")
    return hashlib.sha256(msgspec.msgpack.encode((user, model, request))).digest()


class SharedReply(Struct, frozen=True, kw_only=True):
    """Reply that one call receives, possibly shared with other calls."""

    events: Events
    stats: CallStats
    """Statistics of the computation; for a cached reply, only the model's name is set."""
    shared: Literal["", "cache", "in_flight"]
    """Origin of the reply: `cache`, `in_flight` for a reply that is being computed for another
    call, or empty for a new computation."""


class _CachedReply(Struct, frozen=True, kw_only=True):
    text: str
    usage: Usage
    model: str
    interview: str
    expires_at: float
    """Time at which the reply expires, in seconds on the monotonic clock."""

    @property
    def size(self) -> int:
        return len(self.text.encode()) + ENTRY_OVERHEAD

    async def events(self) -> Events:
        if self.text:
            yield TextDelta(self.text)
        yield self.usage


class ReplyCache:
    """Cache of complete replies that also holds the replies in flight."""

    def __init__(self, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._in_flight: dict[bytes, InFlightReply] = {}
        self._cached: OrderedDict[bytes, _CachedReply] = OrderedDict()
        self._bytes = 0

    def open_reply(
        self, key: bytes, interview: str, ttl: float, compute: Callable[[CallStats], Events]
    ) -> SharedReply:
        """Return a cached reply, join a reply in flight, or compute a new reply.

        A new reply from the primary model is cached for `ttl` seconds; if `ttl` is 0, the cache is
        neither read nor written. A computation is cancelled when its last reader leaves.
        """
        cached = self._lookup(key) if ttl else None
        if cached is not None:
            stats = CallStats(model=cached.model)
            return SharedReply(events=cached.events(), stats=stats, shared="cache")
        reply = self._in_flight.get(key)
        if reply is not None:
            return SharedReply(events=reply.subscribe(), stats=reply.stats, shared="in_flight")

        def on_end(reply: InFlightReply) -> None:
            if self._in_flight.get(key) is reply:
                del self._in_flight[key]
            if ttl and reply.complete and not reply.stats.fallback_index:
                self._store(key, interview, ttl, reply)

        stats = CallStats()
        reply = self._in_flight[key] = InFlightReply(compute(stats), stats, on_end)
        return SharedReply(events=reply.subscribe(), stats=stats, shared="")

    def discard_interview(self, interview: str) -> None:
        """Discard the cached replies of an interview."""
        for key in [key for key, reply in self._cached.items() if reply.interview == interview]:
            self._evict(key)

    def _lookup(self, key: bytes) -> _CachedReply | None:
        cached = self._cached.get(key)
        if cached is None:
            return None
        if cached.expires_at <= self._clock.monotonic():
            self._evict(key)
            return None
        self._cached.move_to_end(key)
        return cached

    def _store(self, key: bytes, interview: str, ttl: float, reply: "InFlightReply") -> None:
        usage = reply.events[-1]
        assert isinstance(usage, Usage)
        self._evict(key)
        cached = self._cached[key] = _CachedReply(
            text="".join(event.text for event in reply.events if isinstance(event, TextDelta)),
            usage=msgspec.structs.replace(usage, cached_tokens=usage.prompt_tokens, seconds=0.0),
            model=reply.stats.model,
            interview=interview,
            expires_at=self._clock.monotonic() + ttl,
        )
        self._bytes += cached.size
        while self._bytes > self._max_bytes:
            self._evict(next(iter(self._cached)))

    def _evict(self, key: bytes) -> None:
        if (cached := self._cached.pop(key, None)) is not None:
            self._bytes -= cached.size


class InFlightReply:
    """Reply that is being computed for any number of readers."""

    def __init__(
        self, source: Events, stats: CallStats, on_end: Callable[["InFlightReply"], None]
    ) -> None:
        """Create a reply whose computation starts when the first reader subscribes.

        `on_end` is called when the computation ends or is about to be cancelled.
        """
        self.stats = stats
        self.events: list[TextDelta | Usage] = []
        self.complete = False
        """True once the reply has ended with a Usage and without an error."""
        self._source = source
        self._on_end = on_end
        self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._readers = 0
        self._computing: asyncio.Task[None] | None = None

    async def subscribe(self) -> Events:
        """Yield all events of the reply. A late reader receives the past events immediately.

        Raises the error with which the computation ended, if it failed.
        """
        self._readers += 1
        if self._computing is None:
            self._computing = asyncio.create_task(self._compute())
        position = 0
        try:
            while True:
                changed = self._changed
                while position < len(self.events):
                    position += 1
                    yield self.events[position - 1]
                if self._ended:
                    break
                await changed.wait()
        finally:
            self._readers -= 1
            if not self._readers and not self._ended:
                self._on_end(self)  # first, so that no new reader joins a cancelled reply
                self._computing.cancel()
                await asyncio.wait({self._computing})
        if self._error is not None:
            raise _copy_error(self._error)

    async def _compute(self) -> None:
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    self.events.append(event)
                    self._notify_readers()
            self.complete = bool(self.events) and isinstance(self.events[-1], Usage)
        except asyncio.CancelledError:
            self._error = InferenceError(
                "The reply was cancelled. Try again.", code=ErrorCode.GIVEN_UP
            )
            raise
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._on_end(self)
            self._notify_readers()

    def _notify_readers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _copy_error(error: Exception) -> Exception:
    """Return a copy of a PrepServerError for each reader, or any other exception unchanged.

    Raising one object twice accumulates tracebacks.
    """
    if not isinstance(error, PrepServerError):
        return error
    return type(error)(
        error.message, code=error.code, retryable=error.retryable, details=error.details
    )
