"""Admission to a model: parallel slots, queue order, and rejection with an estimated wait."""

import asyncio
import random
from contextlib import suppress

import pytest
from msgspec import Struct

from prepserver.engines.types import Priority
from prepserver.errors import InferenceError
from prepserver.gateway.admission import Admission, WaitEstimate
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

ANSWER, REVIEW = Priority.ANSWER, Priority.REVIEW


class Calls:
    """Named calls to one model, with the order of their starts and the seconds that each call
    waits."""

    def __init__(self, *, parallel: int = 1, max_queue: int = 64) -> None:
        self.clock = ManualClock()
        self.admission = Admission(self.clock, parallel=parallel, max_queue=max_queue)
        self.started: list[str] = []
        self.waits: dict[str, float] = {}

    def submit(
        self, name: str, priority: Priority = ANSWER, seconds: float = 10.0
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._run(name, priority, seconds))

    async def _run(self, name: str, priority: Priority, seconds: float) -> None:
        async with self.admission.acquire_slot(priority) as waited:
            self.started.append(name)
            self.waits[name] = waited
            await self.clock.sleep(seconds)


@asynchronous
async def test_answers_overtake_reviews_and_equals_keep_their_order() -> None:
    """Calls are admitted by priority, then by arrival."""
    calls = Calls()
    tasks = [calls.submit("busy")]
    await calls.clock.advance(1)
    for name, priority in (("r1", REVIEW), ("a1", ANSWER), ("r2", REVIEW), ("a2", ANSWER)):
        tasks.append(calls.submit(name, priority))
        await calls.clock.advance(1)
    await calls.clock.advance(60)
    await asyncio.gather(*tasks)
    assert calls.started == ["busy", "a1", "a2", "r1", "r2"]
    assert calls.waits == {"busy": 0, "a1": 8, "a2": 16, "r1": 29, "r2": 37}


@asynchronous
async def test_a_full_queue_rejects_the_call_with_an_estimated_wait() -> None:
    """A call that a full queue rejects receives an estimated wait, based on the durations of recent
    calls."""
    calls = Calls(parallel=2, max_queue=2)
    tasks = [calls.submit(str(number)) for number in range(2)]
    await calls.clock.advance(0)
    await calls.clock.advance(10)
    tasks += [calls.submit(str(number)) for number in range(4)]
    await calls.clock.advance(0)
    assert calls.admission.waiting == 2
    assert calls.admission.estimate() == WaitEstimate(position=3, seconds=15.0)
    with pytest.raises(InferenceError) as error:
        await calls.submit("too many")
    assert error.value.code == ErrorCode.OVERLOADED
    assert error.value.retryable
    assert error.value.details == {"position": 3, "wait": 15.0}
    assert "in about 15 s" in error.value.message
    await calls.clock.advance(30)
    await asyncio.gather(*tasks)


@asynchronous
async def test_there_is_no_estimate_before_the_first_measurement() -> None:
    """A call that is rejected before any call has ended receives its position but no estimated
    wait."""
    calls = Calls(max_queue=0)
    assert calls.admission.estimate() == WaitEstimate(position=0, seconds=0.0)
    task = calls.submit("only")
    await calls.clock.advance(0)
    with pytest.raises(InferenceError) as error:
        await calls.submit("rejected")
    assert error.value.details == {"position": 1, "wait": None}
    await calls.clock.advance(10)
    await task


@asynchronous
async def test_an_answer_displaces_a_review_from_a_full_queue() -> None:
    """An answer that finds the queue full displaces the review that arrived last, and that review
    is rejected as `overloaded`."""
    calls = Calls(max_queue=2)
    tasks = [calls.submit("busy"), calls.submit("r1", REVIEW)]
    await calls.clock.advance(0)
    displaced = calls.submit("r2", REVIEW)
    await calls.clock.advance(0)
    tasks.append(calls.submit("a1"))
    await calls.clock.advance(0)
    with pytest.raises(InferenceError) as error:
        await displaced
    assert error.value.code == ErrorCode.OVERLOADED
    await calls.clock.advance(60)
    await asyncio.gather(*tasks)
    assert calls.started == ["busy", "a1", "r1"]


@asynchronous
async def test_preemptible_work_yields_its_slot_immediately() -> None:
    """Preemptible work takes idle slots only, and yields to the next call even if the queue is
    full."""
    calls = Calls(max_queue=0)
    preempted: list[int] = []

    def preempt() -> None:
        preempted.append(1)
        calls.admission.release_idle_slot(preempt)

    assert calls.admission.try_acquire_idle_slot(preempt)
    assert not calls.admission.try_acquire_idle_slot(lambda: None)
    task = calls.submit("a1")
    await calls.clock.advance(0)
    assert (preempted, calls.started) == ([1], ["a1"])
    await calls.clock.advance(10)
    await task
    assert calls.admission.running == 0


class CallPlan(Struct, frozen=True):
    """Arrival, priority, duration and cancellation of one random call."""

    arrives_at: float
    priority: Priority
    duration: float
    cancelled_after: float
    """Seconds from the arrival of the call to its cancellation, unless the call ends earlier."""


class RandomCalls:
    """Random calls to a model of random capacity, checked against the rules of admission."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.parallel, self.max_queue = dice.randint(1, 4), dice.randint(0, 6)
        self.plans = [
            CallPlan(
                arrives_at=dice.randint(0, 40) / 2,
                priority=dice.choice((ANSWER, ANSWER, REVIEW)),
                duration=dice.randint(1, 12) / 2,
                cancelled_after=dice.randint(0, 40) / 2 if dice.random() < 0.3 else 1e9,
            )
            for _ in range(40)
        ]
        self.clock = ManualClock()
        self.admission = Admission(self.clock, parallel=self.parallel, max_queue=self.max_queue)
        self.waiting: list[tuple[Priority, float, int]] = []
        self.running = 0
        self.outcomes: list[str] = [""] * len(self.plans)

    async def caller(self, number: int) -> None:
        plan = self.plans[number]
        await self.clock.sleep(plan.arrives_at)
        call = asyncio.create_task(self.call(number, plan))
        timeout = asyncio.create_task(self.clock.sleep(plan.cancelled_after))
        await asyncio.wait({call, timeout}, return_when=asyncio.FIRST_COMPLETED)
        timeout.cancel()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call

    async def call(self, number: int, plan: CallPlan) -> None:
        entry = (plan.priority, self.clock.now(), number)
        self.waiting.append(entry)
        try:
            async with self.admission.acquire_slot(plan.priority):
                self.waiting.remove(entry)
                self.running += 1
                try:
                    assert self.running <= self.parallel
                    more_urgent = [other for other in self.waiting if other[:2] < entry[:2]]
                    assert len(more_urgent) <= self.admission.running - self.running
                    self.outcomes[number] = "served"
                    await self.clock.sleep(plan.duration)
                finally:
                    self.running -= 1
        except InferenceError as error:
            self.outcomes[number] = error.code
        finally:
            self.outcomes[number] = self.outcomes[number] or "cancelled"
            if entry in self.waiting:
                self.waiting.remove(entry)


@asynchronous
async def test_random_calls_never_break_the_rules_of_admission() -> None:
    """Under random arrivals, durations and cancellations, the limits on slots and queue length
    hold, no call is overtaken by a less urgent call, every call gets an outcome, and no slot
    leaks."""
    seen: set[str] = set()
    for seed in range(150):
        calls = RandomCalls(seed)
        callers = [asyncio.create_task(calls.caller(n)) for n in range(len(calls.plans))]
        for _ in range(400):
            await calls.clock.advance(0.5)
            assert calls.admission.waiting <= calls.max_queue
            if all(caller.done() for caller in callers):
                break
        await asyncio.gather(*callers)
        assert (calls.admission.running, calls.admission.waiting) == (0, 0), seed
        assert all(calls.outcomes), seed
        seen |= set(calls.outcomes)
    assert seen == {"served", "overloaded", "cancelled"}
