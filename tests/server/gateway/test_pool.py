"""Pool of model sets: opening on demand, the bound on memory, and replacements."""

import asyncio

import pytest

from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import ModelInfo
from prepserver.errors import InferenceError, ModelError
from prepserver.gateway.admission import Admission
from prepserver.gateway.fallback import RetryPolicy
from prepserver.gateway.pool import ROOM_TIMEOUT, ModelPool, SetModels
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous


class CountedModel(ScriptedLanguageModel):
    """Language model that notes in `events` when it is loaded and closed."""

    def __init__(self, clock: ManualClock, name: str, events: list[str]) -> None:
        super().__init__(clock)
        self._name = name
        self._events = events

    async def start(self) -> ModelInfo:
        self._events.append(f"+{self._name}")
        return await super().start()

    async def close(self) -> None:
        self._events.append(f"-{self._name}")


class Shelf:
    """Source of sets called a to e, the first of which new interviews use."""

    def __init__(self, clock: ManualClock, memory: dict[str, int]) -> None:
        self.memory = memory
        self.events: list[str] = []
        self.broken: set[str] = set()
        self.creations = 0
        self._clock = clock

    def resolve(self, name: str) -> str:
        return name if name in self.memory else next(iter(self.memory))

    def create(self, name: str) -> SetModels:
        self.creations += 1
        if name in self.broken:
            if len(self.memory) > 1:
                del self.memory[name]
            raise ModelError("The file is damaged.", code=ErrorCode.MODEL_HASH)
        return SetModels(
            language=[CountedModel(self._clock, name, self.events)],
            speech=[ScriptedSpeechModel(self._clock)],
            memory=self.memory[name],
        )


class PoolHarness:
    def __init__(self, bound: int = 10, **memory: int) -> None:
        self.clock = ManualClock()
        asyncio.get_running_loop().set_default_executor(self.clock.create_executor())
        self.shelf = Shelf(self.clock, memory or dict.fromkeys("abcde", 5))
        self.pool = ModelPool(
            self.shelf,
            self.clock,
            RetryPolicy(),
            lambda speech: Admission(self.clock, parallel=2),
            bound,
        )

    async def visit(self, name: str) -> str:
        """Use a set for a moment and return the set's name."""
        async with self.pool.use(name) as opened:
            await opened.language.first_ready()
            return opened.name

    def hold(self, name: str, release: asyncio.Event) -> asyncio.Task[None]:
        """Use a set until `release` is set."""

        async def use() -> None:
            async with self.pool.use(name):
                await release.wait()

        return asyncio.create_task(use())

    @property
    def open_sets(self) -> list[str]:
        return [each.name for each in self.pool.sets]


@asynchronous
async def test_a_set_is_opened_by_its_first_use_and_stays_open() -> None:
    """Two sets that fit are open at once, and each is loaded only once."""
    harness = PoolHarness()
    harness.pool.start()
    for name in ("a", "b", "a", "b", ""):
        assert await harness.visit(name) == (name or "a")
    assert harness.shelf.events == ["+a", "+b"]
    await harness.pool.close()
    assert sorted(harness.shelf.events[2:]) == ["-a", "-b"]


@asynchronous
async def test_the_least_recently_used_set_is_closed_before_the_next_is_loaded() -> None:
    """When a third set needs memory, the set whose last use is longest ago is closed first."""
    harness = PoolHarness()
    for name in ("a", "b", "a", "c"):
        await harness.visit(name)
    assert harness.shelf.events == ["+a", "+b", "-b", "+c"]
    assert harness.open_sets == ["a", "c"]
    await harness.pool.close()


@asynchronous
async def test_a_set_in_use_is_never_closed() -> None:
    """A set in use stays open although it is the least recently used one."""
    harness, release = PoolHarness(), asyncio.Event()
    held = harness.hold("a", release)
    await harness.clock.advance(0)
    await harness.visit("b")
    await harness.visit("c")
    assert harness.shelf.events == ["+a", "+b", "-b", "+c"]
    release.set()
    await held
    await harness.pool.close()


@asynchronous
async def test_a_call_waits_until_a_set_in_use_is_idle() -> None:
    """If all memory is in use, a call for another set waits for the end of a call, then opens its
    set."""
    harness, release = PoolHarness(bound=5), asyncio.Event()
    held = harness.hold("a", release)
    await harness.clock.advance(0)
    visit = asyncio.create_task(harness.visit("b"))
    await harness.clock.advance(ROOM_TIMEOUT - 1)
    assert harness.open_sets == ["a"]
    release.set()
    assert await visit == "b"
    assert harness.shelf.events == ["+a", "-a", "+b"]
    await held
    await harness.pool.close()


@asynchronous
async def test_a_call_that_finds_no_memory_fails_as_overloaded() -> None:
    """After `ROOM_TIMEOUT` seconds, the waiting call raises `overloaded`; the set in use is
    unaffected, and a later call succeeds."""
    harness, release = PoolHarness(bound=5), asyncio.Event()
    held = harness.hold("a", release)
    await harness.clock.advance(0)
    visit = asyncio.create_task(harness.visit("b"))
    await harness.clock.advance(0)
    await harness.clock.advance(ROOM_TIMEOUT + 1)
    with pytest.raises(InferenceError) as error:
        await visit
    assert (error.value.code, error.value.retryable) == (ErrorCode.OVERLOADED, True)
    release.set()
    await held
    assert await harness.visit("b") == "b"
    await harness.pool.close()


@asynchronous
async def test_a_set_above_the_bound_is_opened_alone() -> None:
    """A set that alone exceeds the bound closes all others and is opened."""
    harness = PoolHarness(a=4, b=4, large=50)
    for name in ("a", "b", "large", "a"):
        await harness.visit(name)
    assert harness.shelf.events == ["+a", "+b", "-a", "-b", "+large", "-large", "+a"]
    await harness.pool.close()


@asynchronous
async def test_remote_sets_need_no_memory() -> None:
    """Sets without memory of this machine are neither closed for others nor waited for."""
    harness = PoolHarness(bound=1, a=0, b=0, c=1, d=1)
    for name in ("a", "b", "c", "d"):
        await harness.visit(name)
    assert harness.open_sets == ["a", "b", "d"]
    await harness.pool.close()


@asynchronous
async def test_simultaneous_first_uses_open_a_set_once() -> None:
    """Twenty calls that arrive at once for a closed set share its models."""
    harness = PoolHarness()
    assert await asyncio.gather(*(harness.visit("b") for _ in range(20))) == ["b"] * 20
    assert (harness.shelf.events, harness.shelf.creations) == (["+b"], 1)
    await harness.pool.close()


@asynchronous
async def test_a_cancelled_wait_leaves_the_pool_usable() -> None:
    """A call that is cancelled while it waits for memory neither opens its set nor blocks later
    calls."""
    harness, release = PoolHarness(bound=5), asyncio.Event()
    held = harness.hold("a", release)
    await harness.clock.advance(0)
    visit = asyncio.create_task(harness.visit("b"))
    await harness.clock.advance(1)
    visit.cancel()
    await asyncio.gather(visit, return_exceptions=True)
    release.set()
    await held
    assert await harness.visit("c") == "c"
    assert "+b" not in harness.shelf.events
    await harness.pool.close()


@asynchronous
async def test_a_damaged_set_is_replaced() -> None:
    """If a set cannot be created and the source offers another, calls use that one; if it offers
    none, they fail with the code of the cause."""
    harness = PoolHarness()
    harness.shelf.broken.add("b")
    assert await harness.visit("b") == "a"
    await harness.pool.close()
    alone = PoolHarness(only=5)
    alone.shelf.broken.add("only")
    with pytest.raises(InferenceError) as error:
        await alone.visit("only")
    assert error.value.code == ErrorCode.MODEL_HASH
    await alone.pool.close()


@asynchronous
async def test_the_state_is_that_of_a_loaded_set_while_the_current_one_loads() -> None:
    """While the set of new interviews is closed or loading, another loaded set stands for it."""
    harness = PoolHarness()
    assert harness.pool.current is None
    await harness.visit("b")
    assert harness.pool.current is not None
    assert harness.pool.current.name == "b"
    await harness.visit("a")
    assert harness.pool.current.name == "a"
    await harness.pool.close()
