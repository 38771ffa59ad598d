"""Reply cache: replies shared while they are generated, and cached replies."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import pytest

from prepserver.engines.types import ChatTurn, Priority, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.reply_cache import ReplyCache, SharedReply, request_key
from prepserver.telemetry.calls import CallStats
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

WORDS = ("One", " two", " three", " four")
Compute = Callable[[CallStats], AsyncGenerator[TextDelta | Usage, None]]
DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, details={"why": "test"})


class CacheHarness:
    """Cache of replies that take a second per word, with counts of the computations."""

    def __init__(self, clock: ManualClock, *, fails_after: int | None = None) -> None:
        self.clock = clock
        self.cache = ReplyCache(clock)
        self.started = 0
        self.finished = 0
        self.cancelled = 0
        self._fails_after = fails_after

    async def compute(self, stats: CallStats) -> AsyncGenerator[TextDelta | Usage, None]:
        self.started += 1
        stats.model = "harness"
        try:
            for number, word in enumerate(WORDS):
                await self.clock.sleep(1)
                if number == self._fails_after:
                    raise DIED
                yield TextDelta(word)
            self.finished += 1
            yield Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=4, seconds=4.0)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    def open_reply(self, key: bytes = b"k", ttl: float = 0.0, interview: str = "i") -> SharedReply:
        return self.cache.open_reply(key, interview, ttl, self.compute)

    def start_reader(self, key: bytes = b"k", ttl: float = 0.0) -> asyncio.Task[str]:
        return asyncio.create_task(read_text(self.open_reply(key, ttl)))

    async def finish_reply(self, key: bytes = b"k", ttl: float = 0.0) -> str:
        """Return the text of one reply, which takes four seconds."""
        reader = self.start_reader(key, ttl)
        await self.clock.advance(0)
        await self.clock.advance(4)
        return await reader


async def read_text(reply: SharedReply) -> str:
    """Return the text of a reply, whose last event must be a Usage."""
    async with aclosing(reply.events) as events:
        received = [event async for event in events]
    assert isinstance(received[-1], Usage)
    return "".join(event.text for event in received if isinstance(event, TextDelta))


@asynchronous
async def test_equal_requests_in_flight_share_one_computation() -> None:
    """Readers of equal requests receive the text of one computation; a different request is
    computed separately."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    readers = [harness.start_reader() for _ in range(5)]
    other = harness.start_reader(b"other")
    await clock.advance(0)
    await clock.advance(4)
    assert await asyncio.gather(*readers) == ["".join(WORDS)] * 5
    assert await other == "".join(WORDS)
    assert (harness.started, harness.finished) == (2, 2)


@asynchronous
async def test_a_late_reader_receives_the_past_text_at_once() -> None:
    """A reader that joins during generation receives the text generated so far, then the rest of
    the text as it is generated."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    first = harness.start_reader()
    await clock.advance(0)
    await clock.advance(2)
    late = harness.open_reply()
    assert late.shared == "in_flight"
    async with aclosing(late.events) as events:
        assert [await anext(events) for _ in range(2)] == [TextDelta("One"), TextDelta(" two")]
        rest = asyncio.create_task(read_rest(events))
        await clock.advance(2)
        assert await rest == " three four"
    assert await first == "One two three four"
    assert harness.started == 1


async def read_rest(events: AsyncGenerator[TextDelta | Usage, None]) -> str:
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


@asynchronous
async def test_a_computation_is_cancelled_when_its_last_reader_leaves() -> None:
    """A computation is cancelled when its last reader leaves, and the next request starts a new
    computation."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    readers = [harness.start_reader() for _ in range(3)]
    await clock.advance(0)
    await clock.advance(1)
    for reader in readers[:2]:
        reader.cancel()
    await asyncio.wait(readers[:2])
    assert harness.cancelled == 0
    readers[2].cancel()
    await asyncio.wait(readers)
    assert harness.cancelled == 1
    assert await harness.finish_reply() == "".join(WORDS)
    assert (harness.started, harness.finished) == (2, 1)


@asynchronous
async def test_a_reader_that_begins_after_the_cancellation_gets_an_error() -> None:
    """A reply that is opened but not yet read does not keep its computation running; reading the
    reply after the computation was cancelled raises `given_up`."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    first = harness.start_reader()
    await clock.advance(0)
    late = harness.open_reply()
    first.cancel()
    await asyncio.wait([first])
    with pytest.raises(InferenceError) as error:
        await read_text(late)
    assert error.value.code == ErrorCode.GIVEN_UP
    assert error.value.retryable


@asynchronous
async def test_a_failure_reaches_every_reader_and_is_not_cached() -> None:
    """A failed computation gives each reader a separate copy of the error, and the next request is
    computed again."""
    clock = ManualClock()
    harness = CacheHarness(clock, fails_after=1)
    readers = [harness.start_reader(ttl=60.0) for _ in range(2)]
    await clock.advance(0)
    await clock.advance(2)
    errors = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(error, InferenceError) for error in errors)
    assert errors[0] is not errors[1]
    for error in errors:
        assert isinstance(error, InferenceError)
        assert error.as_dict() == DIED.as_dict()
    assert harness.open_reply(ttl=60.0).shared == ""


@asynchronous
async def test_a_cached_reply_is_served_until_it_expires() -> None:
    """Until it expires, a cached reply is served as one delta, and its usage counts all prompt
    tokens as cached."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    await harness.finish_reply(ttl=60.0)
    await clock.advance(59)
    cached = harness.open_reply(ttl=60.0)
    assert (cached.shared, cached.stats.model) == ("cache", "harness")
    async with aclosing(cached.events) as events:
        assert [event async for event in events] == [
            TextDelta("".join(WORDS)),
            Usage(prompt_tokens=7, cached_tokens=7, completion_tokens=4, seconds=0.0),
        ]
    await clock.advance(1)
    assert harness.open_reply(ttl=60.0).shared == ""
    assert harness.started == 1


@asynchronous
async def test_a_request_without_a_ttl_bypasses_the_cache() -> None:
    """A request without a time to live neither reads nor writes the cache."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    for ttl in (0.0, 60.0):
        await harness.finish_reply(ttl=ttl)
    assert harness.started == 2
    assert harness.open_reply(ttl=0.0).shared == ""


@asynchronous
async def test_a_reply_of_a_fallback_model_is_not_cached() -> None:
    """A fallback model's reply is not cached, because the cached reply would outlive the primary
    model's failure."""
    clock = ManualClock()
    harness = CacheHarness(clock)

    async def compute_by_fallback(stats: CallStats) -> AsyncGenerator[TextDelta | Usage, None]:
        stats.fallback_index = 1
        async for event in harness.compute(stats):
            yield event

    reply = harness.cache.open_reply(b"k", "i", 60.0, compute_by_fallback)
    reader = asyncio.create_task(read_text(reply))
    await clock.advance(0)
    await clock.advance(4)
    await reader
    assert harness.open_reply(ttl=60.0).shared == ""


@asynchronous
async def test_the_cache_is_bounded_and_an_interviews_replies_can_be_discarded() -> None:
    """A full cache evicts the least recently used reply, and the replies of one interview can be
    discarded."""
    clock = ManualClock()
    harness = CacheHarness(clock)
    harness.cache = ReplyCache(clock, max_bytes=1_200)
    for key in (b"a", b"b"):
        await harness.finish_reply(key, 60.0)
    assert harness.open_reply(b"a", 60.0).shared == "cache"
    await harness.finish_reply(b"c", 60.0)
    assert [harness.open_reply(key, 60.0).shared for key in (b"a", b"c")] == ["cache", "cache"]
    harness.cache.discard_interview("another")
    assert harness.open_reply(b"a", 60.0).shared == "cache"
    harness.cache.discard_interview("i")
    assert harness.open_reply(b"a", 60.0).shared == ""


CHANGES = {
    "text": "Another",
    "turns": (ChatTurn("user", "Hello"),),
    "purpose": "hint",
    "priority": Priority.REVIEW,
    "opening": "Well,",
    "grammar": 'root ::= "a"',
    "schema": {"type": "object"},
    "stop": ("\n",),
    "max_tokens": 1,
    "temperature": 0.1,
    "top_p": 0.5,
    "top_k": 1,
    "min_p": 0.2,
    "repeat_penalty": 1.0,
    "seed": 1,
    "skip_thought": True,
    "options": ("a", "b"),
}


@pytest.mark.parametrize("field", [f for f in Prompt.__struct_fields__ if f != "conversation"])
def test_every_field_of_a_prompt_changes_the_request_key(field: str) -> None:
    """The request key depends on every field of a prompt except `conversation`."""
    prompt = Prompt(text="Go on")
    changed = msgspec.structs.replace(prompt, **{field: CHANGES[field]})
    assert request_key("u", "m", changed) != request_key("u", "m", prompt)


def test_the_request_key_depends_on_user_and_model_but_not_on_the_conversation() -> None:
    """The request key differs between users and between models, and does not depend on the
    conversation."""
    prompt = Prompt(text="Go on")
    key = request_key("u", "m", prompt)
    assert request_key("v", "m", prompt) != key
    assert request_key("u", "n", prompt) != key
    assert request_key("um", "", prompt) != request_key("u", "m", prompt)
    assert request_key("u", "m", msgspec.structs.replace(prompt, conversation="c")) == key


@asynchronous
async def test_random_readers_always_receive_one_complete_reply() -> None:
    """Under random arrivals and departures of readers, a key has at most one computation at a time,
    each reader that stays receives every word once and in order, and no computation lacks a
    reader."""
    joined = 0
    for seed in range(150):
        dice = random.Random(seed)
        clock = ManualClock()
        harness = CacheHarness(clock)
        running: dict[bytes, int] = {}

        def computation_of(
            key: bytes, harness: CacheHarness = harness, running: dict[bytes, int] = running
        ) -> Compute:
            async def compute(stats: CallStats) -> AsyncGenerator[TextDelta | Usage, None]:
                running[key] = running.get(key, 0) + 1
                assert running[key] == 1
                try:
                    async for event in harness.compute(stats):
                        yield event
                finally:
                    running[key] -= 1

            return compute

        async def caller(dice: random.Random = dice, harness: CacheHarness = harness) -> None:
            nonlocal joined
            await harness.clock.sleep(dice.randint(0, 30) / 2)
            key, limit = bytes([dice.randint(0, 2)]), dice.choice((0.5, 1.5, 3, 99, 99))
            reply = harness.cache.open_reply(key, "i", 0.0, computation_of(key))
            joined += reply.shared == "in_flight"
            reader = asyncio.create_task(read_text(reply))
            timeout = asyncio.create_task(harness.clock.sleep(limit))
            await asyncio.wait({reader, timeout}, return_when=asyncio.FIRST_COMPLETED)
            timeout.cancel()
            if reader.done():
                assert reader.result() == "".join(WORDS)
            else:
                reader.cancel()
                await asyncio.wait({reader})
                assert limit < 99

        callers = [asyncio.create_task(caller()) for _ in range(25)]
        for _ in range(60):
            await clock.advance(0.5)
        await asyncio.gather(*callers)
        assert harness.started == harness.finished + harness.cancelled, seed
        assert not any(running.values()), seed
    assert joined > 500
