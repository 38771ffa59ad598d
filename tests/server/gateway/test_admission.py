"""The door of an engine: how many at once, who is next, who is told that it takes too long."""

import asyncio
import random
from contextlib import suppress

import pytest
from msgspec import Struct

from prepserver.engines.types import Priority
from prepserver.errors import InferenceError
from prepserver.gateway.admission import Admission, Estimate
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

ANSWER, REVIEW = Priority.ANSWER, Priority.REVIEW


class Visitors:
    """People at a door; says in which order they came in."""

    def __init__(self, *, parallel: int = 1, limit: int = 64) -> None:
        self.clock = ManualClock()
        self.door = Admission(self.clock, parallel=parallel, limit=limit)
        self.inside: list[str] = []
        self.waits: dict[str, float] = {}

    def come(
        self, name: str, priority: Priority = ANSWER, seconds: float = 10.0
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._visit(name, priority, seconds))

    async def _visit(self, name: str, priority: Priority, seconds: float) -> None:
        async with self.door.admitted(priority) as waited:
            self.inside.append(name)
            self.waits[name] = waited
            await self.clock.sleep(seconds)


@asynchronous
async def test_an_answer_goes_before_a_review_that_came_earlier() -> None:
    """Among equals the first to come is the first to be served."""
    visitors = Visitors()
    visits = [visitors.come("busy")]
    await visitors.clock.advance(1)
    for name, priority in (("r1", REVIEW), ("a1", ANSWER), ("r2", REVIEW), ("a2", ANSWER)):
        visits.append(visitors.come(name, priority))
        await visitors.clock.advance(1)
    await visitors.clock.advance(60)
    await asyncio.gather(*visits)
    assert visitors.inside == ["busy", "a1", "a2", "r1", "r2"]
    assert visitors.waits == {"busy": 0, "a1": 8, "a2": 16, "r1": 29, "r2": 37}


@asynchronous
async def test_who_finds_the_queue_full_is_told_how_long_it_would_take() -> None:
    """From what the last ones took: two places, each free after 10 s, and two waiting before."""
    visitors = Visitors(parallel=2, limit=2)
    visits = [visitors.come(str(number)) for number in range(2)]
    await visitors.clock.advance(0)
    await visitors.clock.advance(10)
    visits += [visitors.come(str(number)) for number in range(4)]
    await visitors.clock.advance(0)
    assert visitors.door.waiting == 2
    assert visitors.door.estimate() == Estimate(position=3, seconds=15.0)
    with pytest.raises(InferenceError) as told:
        await visitors.come("too many")
    assert told.value.code == ErrorCode.OVERLOADED
    assert told.value.retryable
    assert told.value.details == {"position": 3, "wait": 15.0}
    assert "in about 15 s" in told.value.message
    await visitors.clock.advance(30)
    await asyncio.gather(*visits)


@asynchronous
async def test_nothing_is_promised_before_anything_was_measured() -> None:
    """An estimate without a measurement would be an invention."""
    visitors = Visitors(limit=0)
    assert visitors.door.estimate() == Estimate(position=0, seconds=0.0)
    visit = visitors.come("only")
    await visitors.clock.advance(0)
    with pytest.raises(InferenceError) as told:
        await visitors.come("refused")
    assert told.value.details == {"position": 1, "wait": None}
    await visitors.clock.advance(10)
    await visit


@asynchronous
async def test_an_answer_takes_a_reviews_place_in_a_full_queue() -> None:
    """The review that came last is told so, and may come again."""
    visitors = Visitors(limit=2)
    visits = [visitors.come("busy"), visitors.come("r1", REVIEW)]
    await visitors.clock.advance(0)
    displaced = visitors.come("r2", REVIEW)
    await visitors.clock.advance(0)
    visits.append(visitors.come("a1"))
    await visitors.clock.advance(0)
    with pytest.raises(InferenceError) as told:
        await displaced
    assert told.value.code == ErrorCode.OVERLOADED
    await visitors.clock.advance(60)
    await asyncio.gather(*visits)
    assert visitors.inside == ["busy", "a1", "r1"]


@asynchronous
async def test_spare_work_gives_way_at_once() -> None:
    """It takes a free place only, and gives it up to the next who comes, even in a full queue."""
    visitors = Visitors(limit=0)
    evicted: list[int] = []

    def evict() -> None:
        evicted.append(1)
        visitors.door.leave_spare(evict)

    assert visitors.door.take_spare(evict)
    assert not visitors.door.take_spare(lambda: None)
    visit = visitors.come("a1")
    await visitors.clock.advance(0)
    assert (evicted, visitors.inside) == ([1], ["a1"])
    await visitors.clock.advance(10)
    await visit
    assert visitors.door.running == 0


class Plan(Struct, frozen=True):
    """What one of the people in a random crowd does."""

    comes: float
    priority: Priority
    stays: float
    gives_up: float
    """Seconds after coming; also in the middle of a stay."""


class Crowd:
    """Random people at a random door, and what must hold whatever they do."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.parallel, self.limit = dice.randint(1, 4), dice.randint(0, 6)
        self.plans = [
            Plan(
                comes=dice.randint(0, 40) / 2,
                priority=dice.choice((ANSWER, ANSWER, REVIEW)),
                stays=dice.randint(1, 12) / 2,
                gives_up=dice.randint(0, 40) / 2 if dice.random() < 0.3 else 1e9,
            )
            for _ in range(40)
        ]
        self.clock = ManualClock()
        self.door = Admission(self.clock, parallel=self.parallel, limit=self.limit)
        self.waiting: list[tuple[Priority, float, int]] = []
        self.inside = 0
        self.fates: list[str] = [""] * len(self.plans)

    async def person(self, number: int) -> None:
        plan = self.plans[number]
        await self.clock.sleep(plan.comes)
        visit = asyncio.create_task(self.visit(number, plan))
        leaving = asyncio.create_task(self.clock.sleep(plan.gives_up))
        await asyncio.wait({visit, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        visit.cancel()
        with suppress(asyncio.CancelledError):
            await visit

    async def visit(self, number: int, plan: Plan) -> None:
        place = (plan.priority, self.clock.now(), number)
        self.waiting.append(place)
        try:
            async with self.door.admitted(plan.priority):
                self.waiting.remove(place)
                self.inside += 1
                try:
                    assert self.inside <= self.parallel
                    more_urgent = [p for p in self.waiting if p[:2] < place[:2]]
                    assert len(more_urgent) <= self.door.running - self.inside
                    self.fates[number] = "served"
                    await self.clock.sleep(plan.stays)
                finally:
                    self.inside -= 1
        except InferenceError as error:
            self.fates[number] = error.code
        finally:
            self.fates[number] = self.fates[number] or "gave up"
            if place in self.waiting:
                self.waiting.remove(place)


@asynchronous
async def test_whatever_a_crowd_does_the_door_keeps_its_rules() -> None:
    """Random comings, cancellings and stays: never too many inside, nobody overtaken by somebody
    less urgent, nobody lost, no place leaked."""
    seen: set[str] = set()
    for seed in range(150):
        crowd = Crowd(seed)
        people = [asyncio.create_task(crowd.person(n)) for n in range(len(crowd.plans))]
        for _ in range(400):
            await crowd.clock.advance(0.5)
            assert crowd.door.waiting <= crowd.limit
            if all(person.done() for person in people):
                break
        await asyncio.gather(*people)
        assert (crowd.door.running, crowd.door.waiting) == (0, 0), seed
        assert all(crowd.fates), seed
        seen |= set(crowd.fates)
    assert seen == {"served", "overloaded", "gave up"}
