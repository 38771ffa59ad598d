"""The way to a model: loading, charging, retrying."""

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
from tests.support.models import CuedLanguage, Reply, words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
BROKEN = InferenceError("The file is damaged.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False)


class Loading(CuedLanguage):
    """Fails to load in the ways of `failures`, one after the other, and then loads."""

    def __init__(self, clock: ManualClock, failures: list[Exception]) -> None:
        super().__init__(clock, [words("Fine.")])
        self.failures = failures
        self.tries = 0

    async def start(self) -> ModelInfo:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return await super().start()


def call(request: str) -> Call:
    return Call(purpose="question", user="u", interview="i", request=request)


async def said(gateway: Gateway, request: str = "r1") -> str:
    events = gateway.generate(call(request), Prompt(text="Go on"))
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def settled(gateway: Gateway, clock: ManualClock) -> str:
    while gateway.states["interviewer"] == "loading":
        await clock.advance(0.1)
    return gateway.states["interviewer"]


@asynchronous
async def test_an_engine_that_dies_while_it_loads_is_started_again(tmp_path: Path) -> None:
    """kill -9 at the wrong moment costs a retry, as at any other."""
    clock = ManualClock()
    model = Loading(clock, [DIED, DIED])
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(model, ScriptedSpeechModel(clock), limiter, clock)
    gateway.start()
    assert await settled(gateway, clock) == "ready"
    assert model.tries == 3
    assert await said(gateway) == "Fine."
    await gateway.close()
    limiter.close()


@pytest.mark.parametrize("failure", [BROKEN, ZeroDivisionError("a bug")], ids=["broken", "bug"])
@asynchronous
async def test_a_model_that_cannot_be_loaded_is_said_to_be(
    tmp_path: Path, failure: Exception
) -> None:
    """Once is enough, and every call hears why instead of waiting."""
    clock = ManualClock()
    model = Loading(clock, [failure])
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(model, ScriptedSpeechModel(clock), limiter, clock)
    gateway.start()
    assert await settled(gateway, clock) == "failed"
    assert model.tries == 1
    with pytest.raises(InferenceError) as told:
        await said(gateway)
    assert told.value.code == ErrorCode.MODEL_NOT_LOADED
    await gateway.close()
    limiter.close()


@asynchronous
async def test_a_request_is_charged_once_and_the_next_one_again(tmp_path: Path) -> None:
    """By its name: what is tried again costs nothing more."""
    clock = ManualClock()
    replies: list[Reply] = [words("Fine.")]
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=1)
    gateway = Gateway(CuedLanguage(clock, replies), ScriptedSpeechModel(clock), limiter, clock)
    gateway.start()
    assert await said(gateway) == "Fine."
    assert await said(gateway) == "Fine."
    with pytest.raises(RateLimited):
        await said(gateway, "r2")
    await gateway.close()
    limiter.close()
