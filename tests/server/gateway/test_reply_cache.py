"""Replies that calls share: in flight, and kept for a while."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import pytest

from prepserver.engines.types import ChatTurn, Priority, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.reply_cache import ReplyCache, SharedReply, key_of
from prepserver.telemetry.calls import CallStats
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

WORDS = ("One", " two", " three", " four")
Compute = Callable[[CallStats], AsyncGenerator[TextDelta | Usage, None]]
DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, details={"why": "test"})


class Press:
    """Computes replies, a word a second; counts what it began, finished and gave up."""

    def __init__(self, clock: ManualClock, *, fails_after: int | None = None) -> None:
        self.clock = clock
        self.answers = ReplyCache(clock)
        self.begun = 0
        self.finished = 0
        self.given_up = 0
        self._fails_after = fails_after

    async def compute(self, effort: CallStats) -> AsyncGenerator[TextDelta | Usage, None]:
        self.begun += 1
        effort.model = "press"
        try:
            for number, word in enumerate(WORDS):
                await self.clock.sleep(1)
                if number == self._fails_after:
                    raise DIED
                yield TextDelta(word)
            self.finished += 1
            yield Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=4, seconds=4.0)
        except (asyncio.CancelledError, GeneratorExit):
            self.given_up += 1
            raise

    def read(self, key: bytes = b"k", keep: float = 0.0, interview: str = "i") -> SharedReply:
        return self.answers.read(key, interview, keep, self.compute)

    def reader(self, key: bytes = b"k", keep: float = 0.0) -> asyncio.Task[str]:
        return asyncio.create_task(text_of(self.read(key, keep)))


async def text_of(reading: SharedReply) -> str:
    """All that one reader gets; the Usage must come last."""
    async with aclosing(reading.events) as events:
        got = [event async for event in events]
    assert isinstance(got[-1], Usage)
    return "".join(event.text for event in got if isinstance(event, TextDelta))


@asynchronous
async def test_equal_requests_in_flight_share_one_computation() -> None:
    """All read the same text; another request has its own."""
    clock = ManualClock()
    press = Press(clock)
    readers = [press.reader() for _ in range(5)]
    other = press.reader(b"other")
    await clock.advance(0)
    await clock.advance(4)
    assert await asyncio.gather(*readers) == ["".join(WORDS)] * 5
    assert await other == "".join(WORDS)
    assert (press.begun, press.finished) == (2, 2)


@asynchronous
async def test_who_comes_late_gets_at_once_what_was_said_already() -> None:
    """And the rest as it comes."""
    clock = ManualClock()
    press = Press(clock)
    first = press.reader()
    await clock.advance(0)
    await clock.advance(2)
    late = press.read()
    assert late.shared == "flight"
    async with aclosing(late.events) as events:
        assert [await anext(events) for _ in range(2)] == [TextDelta("One"), TextDelta(" two")]
        upcoming = asyncio.create_task(text_of_rest(events))
        await clock.advance(2)
        assert await upcoming == " three four"
    assert await first == "One two three four"
    assert press.begun == 1


async def text_of_rest(events: AsyncGenerator[TextDelta | Usage, None]) -> str:
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


@asynchronous
async def test_the_computation_ends_only_when_the_last_leaves() -> None:
    """Whoever comes after that begins a new one."""
    clock = ManualClock()
    press = Press(clock)
    readers = [press.reader() for _ in range(3)]
    await clock.advance(0)
    await clock.advance(1)
    for reader in readers[:2]:
        reader.cancel()
    await asyncio.wait(readers[:2])
    assert press.given_up == 0
    readers[2].cancel()
    await asyncio.wait(readers)
    assert press.given_up == 1
    again = press.reader()
    await clock.advance(0)
    await clock.advance(4)
    assert await again == "".join(WORDS)
    assert (press.begun, press.finished) == (2, 1)


@asynchronous
async def test_a_failure_is_everybodys_and_not_kept() -> None:
    """Each gets an error of its own, after the words that came; the next request tries again."""
    clock = ManualClock()
    press = Press(clock, fails_after=1)
    readers = [press.reader(keep=60.0) for _ in range(2)]
    await clock.advance(0)
    await clock.advance(2)
    errors = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(error, InferenceError) for error in errors)
    assert errors[0] is not errors[1]
    for error in errors:
        assert isinstance(error, InferenceError)
        assert error.as_dict() == DIED.as_dict()
    assert press.read(keep=60.0).shared == ""


@asynchronous
async def test_a_kept_reply_is_given_until_its_time_is_over() -> None:
    """In one piece, with the figures of the first one and nothing computed."""
    clock = ManualClock()
    press = Press(clock)
    first = press.reader(keep=60.0)
    await clock.advance(0)
    await clock.advance(4)
    await first
    await clock.advance(59)
    kept = press.read(keep=60.0)
    assert (kept.shared, kept.effort.model) == ("cache", "press")
    async with aclosing(kept.events) as events:
        assert [event async for event in events] == [
            TextDelta("".join(WORDS)),
            Usage(prompt_tokens=7, cached_tokens=7, completion_tokens=4, seconds=0.0),
        ]
    await clock.advance(1)
    assert press.read(keep=60.0).shared == ""
    assert press.begun == 1


@asynchronous
async def test_what_is_not_asked_to_be_kept_is_not() -> None:
    """Neither kept nor taken from what another request has kept."""
    clock = ManualClock()
    press = Press(clock)
    for keep in (0.0, 60.0):
        reader = press.reader(keep=keep)
        await clock.advance(0)
        await clock.advance(4)
        await reader
    assert press.begun == 2
    assert press.read(keep=0.0).shared == ""


@asynchronous
async def test_a_reply_of_a_model_that_stepped_in_is_not_kept() -> None:
    """It would outlive the failure that it made up for."""
    clock = ManualClock()
    press = Press(clock)

    async def stand_in(effort: CallStats) -> AsyncGenerator[TextDelta | Usage, None]:
        effort.step = 1
        async for event in press.compute(effort):
            yield event

    reader = asyncio.create_task(text_of(press.answers.read(b"k", "i", 60.0, stand_in)))
    await clock.advance(0)
    await clock.advance(4)
    await reader
    assert press.read(keep=60.0).shared == ""


@asynchronous
async def test_kept_replies_are_bounded_and_can_be_forgotten() -> None:
    """What was not asked for the longest goes first; an interview that is gone leaves nothing."""
    clock = ManualClock()
    press = Press(clock)
    press.answers = ReplyCache(clock, most_bytes=1_200)
    for key in (b"a", b"b"):
        reader = press.reader(key, 60.0)
        await clock.advance(0)
        await clock.advance(4)
        await reader
    assert press.read(b"a", 60.0).shared == "cache"
    reader = press.reader(b"c", 60.0)
    await clock.advance(0)
    await clock.advance(4)
    await reader
    assert [press.read(key, 60.0).shared for key in (b"a", b"c")] == ["cache", "cache"]
    press.answers.forget("another")
    assert press.read(b"a", 60.0).shared == "cache"
    press.answers.forget("i")
    assert press.read(b"a", 60.0).shared == ""


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
}


@pytest.mark.parametrize("field", [f for f in Prompt.__struct_fields__ if f != "conversation"])
def test_every_field_of_a_prompt_makes_another_request(field: str) -> None:
    """A field that somebody adds must be given another value here, or this test fails."""
    prompt = Prompt(text="Go on")
    changed = msgspec.structs.replace(prompt, **{field: CHANGES[field]})
    assert key_of("u", "m", changed) != key_of("u", "m", prompt)


def test_users_and_models_share_nothing_and_conversations_do_not_matter() -> None:
    """The conversation only names what is cached of the prompt."""
    prompt = Prompt(text="Go on")
    key = key_of("u", "m", prompt)
    assert key_of("v", "m", prompt) != key
    assert key_of("u", "n", prompt) != key
    assert key_of("um", "", prompt) != key_of("u", "m", prompt)
    assert key_of("u", "m", msgspec.structs.replace(prompt, conversation="c")) == key


@asynchronous
async def test_however_readers_come_and_go_each_sees_one_whole_reply() -> None:
    """Random arrivals and departures: never two computations of one key at once, each reader who
    stays gets every word once and in order, none goes on for nobody."""
    joined = 0
    for seed in range(150):
        dice = random.Random(seed)
        clock = ManualClock()
        press = Press(clock)
        running: dict[bytes, int] = {}

        def source(
            key: bytes, press: Press = press, running: dict[bytes, int] = running
        ) -> Compute:
            async def compute(effort: CallStats) -> AsyncGenerator[TextDelta | Usage, None]:
                running[key] = running.get(key, 0) + 1
                assert running[key] == 1
                try:
                    async for event in press.compute(effort):
                        yield event
                finally:
                    running[key] -= 1

            return compute

        async def person(dice: random.Random = dice, press: Press = press) -> None:
            nonlocal joined
            await press.clock.sleep(dice.randint(0, 30) / 2)
            key, patience = bytes([dice.randint(0, 2)]), dice.choice((0.5, 1.5, 3, 99, 99))
            reading = press.answers.read(key, "i", 0.0, source(key))
            joined += reading.shared == "flight"
            reader = asyncio.create_task(text_of(reading))
            leaving = asyncio.create_task(press.clock.sleep(patience))
            await asyncio.wait({reader, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if reader.done():
                assert reader.result() == "".join(WORDS)
            else:
                reader.cancel()
                await asyncio.wait({reader})
                assert patience < 99

        people = [asyncio.create_task(person()) for _ in range(25)]
        for _ in range(60):
            await clock.advance(0.5)
        await asyncio.gather(*people)
        assert press.begun == press.finished + press.given_up, seed
        assert not any(running.values()), seed
    assert joined > 500
