"""Fallback chains: retries, timeouts, and models that take over."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from prepserver.engines.types import LanguageModel, ModelInfo, Priority, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.admission import Admission
from prepserver.gateway.fallback import Backend, FallbackChain, RetryPolicy
from prepserver.telemetry.calls import CallStats
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, advance_until_done, split_words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
BROKEN = InferenceError("The file is damaged.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False)
TOO_LONG = InferenceError("Too long.", code=ErrorCode.CONTEXT_OVERFLOW, retryable=False)


class FailingToLoad(CuedLanguageModel):
    """Model whose loading raises the given failures in turn, then succeeds."""

    def __init__(self, clock: ManualClock, failures: list[Exception]) -> None:
        super().__init__(clock, [split_words("Here I am.")])
        self.failures = failures
        self.attempts = 0

    async def start(self) -> ModelInfo:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return await super().start()


class ChainRun:
    """Fallback chain with the text and the statistics of one call."""

    def __init__(
        self,
        clock: ManualClock,
        models: Sequence[LanguageModel],
        *,
        retries: RetryPolicy | None = None,
        timeout: float = 0.0,
        max_queue: int = 64,
    ) -> None:
        retries = retries or RetryPolicy()
        self.clock = clock
        self.stats = CallStats()
        self.fallback_chain: FallbackChain[LanguageModel] = FallbackChain(
            [
                Backend(
                    model, "", clock, retries, Admission(clock, parallel=1, max_queue=max_queue)
                )
                for model in models
            ],
            clock,
            retries,
        )
        self.timeout = timeout
        self.text = ""
        """Text received so far, including the text of a failed call."""

    def stream(self) -> AsyncGenerator[TextDelta | Usage, None]:
        return self.fallback_chain.stream(
            lambda model: model.generate(Prompt()),
            self.stats,
            Priority.ANSWER,
            timeout=self.timeout,
        )

    async def read_reply(self) -> str:
        async with aclosing(self.stream()) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    self.text += event.text
        return self.text

    async def finish(self) -> str:
        """Load the models, read one reply, close the chain, and return the reply."""
        self.fallback_chain.start()
        text: str = await advance_until_done(self.read_reply(), self.clock)
        await self.fallback_chain.close()
        return text


def model_of(clock: ManualClock, *replies: Reply, **options: Any) -> CuedLanguageModel:
    return CuedLanguageModel(clock, replies, **options)


@pytest.mark.parametrize(
    ("backoff", "delay", "pauses"),
    [
        ("constant", 2.0, [2, 2, 2, 2, 2]),
        ("linear", 1.5, [1.5, 3, 4.5, 5, 5]),
        ("exponential", 0.5, [0.5, 1, 2, 4, 5]),
    ],
)
@asynchronous
async def test_pauses_between_retries_grow_up_to_five_seconds(
    backoff: Any, delay: float, pauses: list[float]
) -> None:
    """The pauses between retries follow the configured backoff and never exceed five seconds."""
    clock = ManualClock()
    times: list[float] = []

    class Timed(CuedLanguageModel):
        async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
            times.append(clock.monotonic())
            async for event in super().generate(prompt):
                yield event

    model = Timed(clock, [[DIED]] * 5 + [split_words("At last.")])
    run = ChainRun(clock, [model], retries=RetryPolicy(limit=5, delay=delay, backoff=backoff))
    assert await run.finish() == "At last."
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pauses
    assert run.stats.retries == 5


@asynchronous
async def test_a_call_is_not_retried_after_its_first_text() -> None:
    """A call that fails after its first text is neither retried nor passed to the next model, since
    the reader would see text twice."""
    clock = ManualClock()
    first, second = model_of(clock, ["Half", DIED]), model_of(clock, split_words("Another."))
    run = ChainRun(clock, [first, second])
    with pytest.raises(InferenceError) as error:
        await run.finish()
    assert error.value.code == ErrorCode.WORKER_DIED
    assert run.text == "Half"
    assert (len(first.prompts), len(second.prompts)) == (1, 0)


@asynchronous
async def test_the_next_model_takes_over_when_the_retries_are_used_up() -> None:
    """When the primary model has failed in every retry, the next model replies, and the statistics
    contain the index of that model and the number of retries."""
    clock = ManualClock()
    first, second = model_of(clock, [DIED]), model_of(clock, split_words("Mine."))
    run = ChainRun(clock, [first, second], retries=RetryPolicy(limit=2))
    assert await run.finish() == "Mine."
    assert (len(first.prompts), len(second.prompts)) == (3, 1)
    assert (run.stats.fallback_index, run.stats.model, run.stats.retries) == (1, "cued", 2)


@asynchronous
async def test_a_permanent_error_is_not_retried_on_the_same_model() -> None:
    """After a permanent error, the call goes to the next model at once, without a retry."""
    clock = ManualClock()
    first, second = model_of(clock, [TOO_LONG]), model_of(clock, split_words("Long."))
    run = ChainRun(clock, [first, second])
    assert await run.finish() == "Long."
    assert (len(first.prompts), run.stats.retries) == (1, 0)


@asynchronous
async def test_when_every_model_fails_the_primary_models_error_is_raised() -> None:
    """If every model fails, the caller gets the error of the primary model."""
    clock = ManualClock()
    run = ChainRun(clock, [model_of(clock, [TOO_LONG]), model_of(clock, [DIED])])
    with pytest.raises(InferenceError) as error:
        await run.finish()
    assert error.value.code == ErrorCode.CONTEXT_OVERFLOW


@asynchronous
async def test_a_model_that_exceeds_the_first_token_timeout_is_cancelled() -> None:
    """If a model sends no token before the timeout, the model's call is cancelled; the timeout does
    not apply to later tokens."""
    clock = ManualClock()
    first = model_of(clock, split_words("Too late."), pause=11.0)
    second = model_of(clock, split_words("In good time."), pause=9.0)
    run = ChainRun(clock, [first, second], retries=RetryPolicy(limit=1), timeout=10.0)
    assert await run.finish() == "In good time."
    assert (len(first.prompts), first.closed_early) == (2, 2)


@asynchronous
async def test_a_first_token_timeout_without_a_fallback_is_a_retryable_error() -> None:
    """If the only model exceeds the first-token timeout, the call fails with the retryable error
    `first_token_timeout`."""
    clock = ManualClock()
    model = model_of(clock, split_words("Too late."), pause=11.0)
    run = ChainRun(clock, [model], retries=RetryPolicy(limit=0), timeout=10.0)
    with pytest.raises(InferenceError) as error:
        await run.finish()
    assert (error.value.code, error.value.retryable) == (ErrorCode.FIRST_TOKEN_TIMEOUT, True)
    assert clock.monotonic() == 10.0


@asynchronous
async def test_a_fallback_model_takes_over_from_one_that_does_not_load() -> None:
    """When the primary model cannot be loaded, the chain becomes ready with the fallback model,
    which then serves the calls."""
    clock = ManualClock()
    second = model_of(clock, split_words("Second."))
    run = ChainRun(clock, [FailingToLoad(clock, [BROKEN]), second])
    assert await run.finish() == "Second."
    assert run.stats.fallback_index == 1
    assert run.fallback_chain.state == "ready"


@asynchronous
async def test_a_model_that_failed_to_load_is_loaded_again_by_a_later_call() -> None:
    """After a model has failed to load, calls load the model again, at most once every five
    seconds."""
    clock = ManualClock()
    model = FailingToLoad(clock, [DIED] * 3)
    run = ChainRun(clock, [model], retries=RetryPolicy(limit=1))
    run.fallback_chain.start()
    with pytest.raises(InferenceError):
        await advance_until_done(run.read_reply(), clock)
    assert (model.attempts, run.fallback_chain.state) == (2, "failed")
    with pytest.raises(InferenceError):
        await advance_until_done(run.read_reply(), clock)
    assert model.attempts == 2
    await clock.advance(5)
    with pytest.raises(InferenceError):
        await advance_until_done(run.read_reply(), clock)
    assert model.attempts == 3
    await clock.advance(5)
    assert await advance_until_done(run.read_reply(), clock) == "Here I am."
    assert run.fallback_chain.state == "ready"
    await run.fallback_chain.close()


@asynchronous
async def test_a_full_queue_sends_calls_to_the_next_model() -> None:
    """A call that the first model's full queue rejects is answered by the next model."""
    clock = ManualClock()
    first = model_of(clock, split_words("Slow."), pause=50.0)
    run = ChainRun(clock, [first, model_of(clock, split_words("Idle."))], max_queue=0)
    run.fallback_chain.start()
    await run.fallback_chain.first_ready()
    slow = asyncio.create_task(run.read_reply())
    await clock.advance(0)
    run.stats = CallStats()
    assert await advance_until_done(run.read_reply(), clock) == "Idle."
    assert run.stats.fallback_index == 1
    slow.cancel()
    await asyncio.wait({slow})
    assert first.closed_early == 1
    await run.fallback_chain.close()
