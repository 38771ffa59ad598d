"""Options that the scripted model chooses from, and their way through the gateway."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway, GatewayPolicy
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import one_set

DECISION = Prompt(purpose="decision", text="Which?", options=("1", "2", "3"))


@pytest.mark.parametrize(
    ("choices", "option"),
    [(None, "1"), ({"decision": "3"}, "3"), ({"review": "3"}, "1")],
)
@asynchronous
async def test_the_choice_depends_on_the_purpose(
    choices: Mapping[str, str] | None, option: str
) -> None:
    """The scripted model chooses the option that is set for the purpose, or else the first."""
    model = ScriptedLanguageModel(ManualClock(), choices=choices)
    delta, usage = [event async for event in model.generate(DECISION)]
    assert delta == TextDelta(option)
    assert isinstance(usage, Usage)
    assert usage.probabilities == tuple(float(each == option) for each in DECISION.options)


@asynchronous
async def test_unusable_options_are_rejected() -> None:
    """A single option fails with `bad_grammar`, as it does with every model."""
    with pytest.raises(InferenceError) as caught:
        await anext(ScriptedLanguageModel(ManualClock()).generate(Prompt(options=("1",))))
    assert caught.value.code == ErrorCode.BAD_GRAMMAR


@asynchronous
async def test_a_cached_decision_keeps_its_probabilities(tmp_path: Path) -> None:
    """The gateway passes the probabilities on, also from its reply cache."""
    clock = ManualClock()
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    policy = GatewayPolicy(reply_cache_purposes=frozenset({"decision"}))
    model = ScriptedLanguageModel(clock, choices={"decision": "2"})
    gateway = Gateway(one_set(model, ScriptedSpeechModel(clock)), limiter, clock, policy)
    gateway.start()
    call = Call(purpose="decision", user="u", interview="i", request="r")
    for _ in range(2):
        delta, usage = [event async for event in gateway.generate(call, DECISION)]
        assert delta == TextDelta("2")
        assert isinstance(usage, Usage)
        assert usage.probabilities == (0.0, 1.0, 0.0)
    await gateway.close()
    limiter.close()
