"""Gateway: loading models and charging requests."""

from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import ModelInfo, Prompt, TextDelta
from prepserver.errors import InferenceError, RateLimited
from prepserver.gateway.gateway import Call, Gateway
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, one_set, split_words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
BROKEN = InferenceError("The file is damaged.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False)


class LoadingModel(CuedLanguageModel):
    """Model whose loading raises the given failures in turn, then succeeds."""

    def __init__(self, clock: ManualClock, failures: list[Exception]) -> None:
        super().__init__(clock, [split_words("Fine.")])
        self.failures = failures
        self.attempts = 0

    async def start(self) -> ModelInfo:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return await super().start()


async def read_reply(gateway: Gateway, request: str = "r1") -> str:
    call = Call(purpose="question", user="u", interview="i", request=request)
    events = gateway.generate(call, Prompt(text="Go on"))
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def state_after_loading(gateway: Gateway, clock: ManualClock) -> str:
    while gateway.model_states["interviewer"] == "loading":
        await clock.advance(0.1)
    return gateway.model_states["interviewer"]


@asynchronous
async def test_an_engine_that_dies_while_loading_is_restarted(tmp_path: Path) -> None:
    """An engine that dies while it is loading a model is restarted."""
    clock = ManualClock()
    model = LoadingModel(clock, [DIED, DIED])
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(one_set(model, ScriptedSpeechModel(clock)), limiter, clock)
    gateway.start()
    assert await state_after_loading(gateway, clock) == "ready"
    assert model.attempts == 3
    assert await read_reply(gateway) == "Fine."
    await gateway.close()
    limiter.close()


@pytest.mark.parametrize("failure", [BROKEN, ZeroDivisionError("a bug")], ids=["broken", "bug"])
@asynchronous
async def test_calls_to_a_model_that_cannot_be_loaded_fail_with_the_cause(
    tmp_path: Path, failure: Exception
) -> None:
    """After a permanent failure to load a model, loading is not retried, and calls fail at once as
    `model_not_loaded`."""
    clock = ManualClock()
    model = LoadingModel(clock, [failure])
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(one_set(model, ScriptedSpeechModel(clock)), limiter, clock)
    gateway.start()
    assert await state_after_loading(gateway, clock) == "failed"
    assert model.attempts == 1
    with pytest.raises(InferenceError) as error:
        await read_reply(gateway)
    assert error.value.code == ErrorCode.MODEL_NOT_LOADED
    await gateway.close()
    limiter.close()


@asynchronous
async def test_a_retried_request_is_charged_once(tmp_path: Path) -> None:
    """Calls that belong to the same request are charged once; a call of another request is charged
    separately."""
    clock = ManualClock()
    replies: list[Reply] = [split_words("Fine.")]
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=1)
    gateway = Gateway(
        one_set(CuedLanguageModel(clock, replies), ScriptedSpeechModel(clock)), limiter, clock
    )
    gateway.start()
    assert await read_reply(gateway) == "Fine."
    assert await read_reply(gateway) == "Fine."
    with pytest.raises(RateLimited):
        await read_reply(gateway, "r2")
    await gateway.close()
    limiter.close()
