"""A chain of models: retries, time-outs, and the one that steps in."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from prepserver.engines.types import LanguageModel, ModelInfo, Priority, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.admission import Admission
from prepserver.gateway.fallback import Backend, FallbackChain, Retries
from prepserver.telemetry.calls import CallStats
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, Reply, finished, words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
BROKEN = InferenceError("The file is damaged.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False)


class Unloadable(CuedLanguage):
    """Fails to load as often as it has failures, and then loads."""

    def __init__(self, clock: ManualClock, failures: list[Exception]) -> None:
        super().__init__(clock, [words("Here I am.")])
        self.failures = failures
        self.tries = 0

    async def start(self) -> ModelInfo:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return await super().start()


class Run:
    """A chain of models and what its runs have come to."""

    def __init__(
        self,
        clock: ManualClock,
        models: Sequence[LanguageModel],
        *,
        retries: Retries | None = None,
        timeout: float = 0.0,
        limit: int = 64,
    ) -> None:
        retries = retries or Retries()
        self.clock = clock
        self.effort = CallStats()
        self.chain: FallbackChain[LanguageModel] = FallbackChain(
            [
                Backend(model, "", clock, retries, Admission(clock, parallel=1, limit=limit))
                for model in models
            ],
            clock,
            retries,
        )
        self.timeout = timeout
        self.heard = ""

    def events(self) -> AsyncGenerator[TextDelta | Usage, None]:
        return self.chain.run(
            lambda model: model.generate(Prompt()),
            self.effort,
            Priority.ANSWER,
            timeout=self.timeout,
        )

    async def said(self) -> str:
        """Run to the end; `heard` is what came before a failure."""
        async with aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    self.heard += event.text
        return self.heard

    async def finish(self) -> str:
        self.chain.start()
        text: str = await finished(self.said(), self.clock)
        await self.chain.close()
        return text


def replying(clock: ManualClock, *replies: Reply, **options: Any) -> CuedLanguage:
    return CuedLanguage(clock, replies, **options)


@pytest.mark.parametrize(
    ("growth", "delay", "pauses"),
    [
        ("constant", 2.0, [2, 2, 2, 2, 2]),
        ("linear", 1.5, [1.5, 3, 4.5, 5, 5]),
        ("exponential", 0.5, [0.5, 1, 2, 4, 5]),
    ],
)
@asynchronous
async def test_the_pauses_grow_as_asked_and_never_beyond_five_seconds(
    growth: Any, delay: float, pauses: list[float]
) -> None:
    """Five retries, measured on the clock between the model's attempts."""
    clock = ManualClock()
    times: list[float] = []

    class Timed(CuedLanguage):
        async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
            times.append(clock.monotonic())
            async for event in super().generate(prompt):
                yield event

    model = Timed(clock, [[DIED]] * 5 + [words("At last.")])
    run = Run(clock, [model], retries=Retries(limit=5, delay=delay, growth=growth))
    assert await run.finish() == "At last."
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pauses
    assert run.effort.retries == 5


@asynchronous
async def test_no_retry_after_a_word_has_left() -> None:
    """A reader would see the beginning twice; not even the next model is asked."""
    clock = ManualClock()
    first, second = replying(clock, ["Half", DIED]), replying(clock, words("Another."))
    run = Run(clock, [first, second])
    with pytest.raises(InferenceError) as told:
        await run.finish()
    assert told.value.code == ErrorCode.WORKER_DIED
    assert run.heard == "Half"
    assert (len(first.prompts), len(second.prompts)) == (1, 0)


@asynchronous
async def test_the_next_model_steps_in_when_retries_are_used_up() -> None:
    """And which one it was is known."""
    clock = ManualClock()
    first, second = replying(clock, [DIED]), replying(clock, words("Mine."))
    run = Run(clock, [first, second], retries=Retries(limit=2))
    assert await run.finish() == "Mine."
    assert (len(first.prompts), len(second.prompts)) == (3, 1)
    assert (run.effort.step, run.effort.model, run.effort.retries) == (1, "cued", 2)


@asynchronous
async def test_what_cannot_be_mended_is_not_tried_again_on_the_same_model() -> None:
    """The next one may be able to: it has a longer context, say."""
    clock = ManualClock()
    overflow = InferenceError("Too long.", code=ErrorCode.CONTEXT_OVERFLOW, retryable=False)
    first, second = replying(clock, [overflow]), replying(clock, words("Long."))
    run = Run(clock, [first, second])
    assert await run.finish() == "Long."
    assert (len(first.prompts), run.effort.retries) == (1, 0)


@asynchronous
async def test_when_all_fail_the_first_ones_failure_is_told() -> None:
    """It is the model that the server was set up for."""
    clock = ManualClock()
    overflow = InferenceError("Too long.", code=ErrorCode.CONTEXT_OVERFLOW, retryable=False)
    run = Run(clock, [replying(clock, [overflow]), replying(clock, [DIED])])
    with pytest.raises(InferenceError) as told:
        await run.finish()
    assert told.value.code == ErrorCode.CONTEXT_OVERFLOW


@asynchronous
async def test_a_model_that_says_nothing_in_time_is_given_up() -> None:
    """It is freed at once; later words may take as long as they like."""
    clock = ManualClock()
    first = replying(clock, words("Too late."), pause=11.0)
    second = replying(clock, words("In good time."), pause=9.0)
    run = Run(clock, [first, second], retries=Retries(limit=1), timeout=10.0)
    assert await run.finish() == "In good time."
    assert (len(first.prompts), first.closed_early) == (2, 2)


@asynchronous
async def test_alone_a_model_that_says_nothing_is_an_error() -> None:
    """With a code of its own, and worth another try."""
    clock = ManualClock()
    model = replying(clock, words("Too late."), pause=11.0)
    run = Run(clock, [model], retries=Retries(limit=0), timeout=10.0)
    with pytest.raises(InferenceError) as told:
        await run.finish()
    assert (told.value.code, told.value.retryable) == ("first_token_timeout", True)
    assert clock.monotonic() == 10.0


@asynchronous
async def test_another_model_takes_over_from_one_that_does_not_load() -> None:
    """The chain is ready when the second is, and its calls go there."""
    clock = ManualClock()
    run = Run(clock, [Unloadable(clock, [BROKEN]), replying(clock, words("Second."))])
    assert await run.finish() == "Second."
    assert run.effort.step == 1
    assert run.chain.state == "ready"


@asynchronous
async def test_a_model_that_was_away_at_the_start_comes_back() -> None:
    """A call tries to load it again, but not more often than every five seconds."""
    clock = ManualClock()
    model = Unloadable(clock, [DIED] * 3)
    run = Run(clock, [model], retries=Retries(limit=1))
    run.chain.start()
    with pytest.raises(InferenceError):
        await finished(run.said(), clock)
    assert (model.tries, run.chain.state) == (2, "failed")
    with pytest.raises(InferenceError):
        await finished(run.said(), clock)
    assert model.tries == 2
    await clock.advance(5)
    with pytest.raises(InferenceError):
        await finished(run.said(), clock)
    assert model.tries == 3
    await clock.advance(5)
    assert await finished(run.said(), clock) == "Here I am."
    assert run.chain.state == "ready"
    await run.chain.close()


@asynchronous
async def test_a_full_queue_sends_calls_to_the_next_model() -> None:
    """A busy model is a model that cannot answer now."""
    clock = ManualClock()
    first = replying(clock, words("Slow."), pause=50.0)
    run = Run(clock, [first, replying(clock, words("Free."))], limit=0)
    run.chain.start()
    await run.chain.first()
    slow = asyncio.create_task(run.said())
    await clock.advance(0)
    run.effort = CallStats()
    assert await finished(run.said(), clock) == "Free."
    assert run.effort.step == 1
    slow.cancel()
    await asyncio.wait({slow})
    assert first.closed_early == 1
    await run.chain.close()
