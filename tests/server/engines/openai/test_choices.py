"""Options that a remote model chooses from."""

from typing import Any

import msgspec
import pytest

from prepserver.engines.types import Prompt, TextDelta
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.fake_endpoint import (
    CHAT,
    DONE,
    FakeEndpoint,
    delta,
    error_response,
    event,
    generate,
    new_model,
    reply_response,
    stream_response,
)
from tests.support.loop import asynchronous

DECISION = msgspec.structs.replace(CHAT, purpose="decision", options=("1", "2", "10"))


def chat_logprobs(token: str, **alternatives: float) -> dict[str, Any]:
    top = [{"token": each, "logprob": value} for each, value in alternatives.items()]
    return {"content": [{"token": token, "logprob": 0.0, "top_logprobs": top}]}


def scored(text: str, logprobs: Any) -> bytes:
    """Encode one event of a chat reply with logprobs."""
    return event({"choices": [{"delta": {"content": text}, "logprobs": logprobs}]})


@asynchronous
async def test_the_request_allows_only_the_options() -> None:
    """The request has a grammar of the options, a small token limit, temperature 0, and asks for
    the alternatives to each token."""
    endpoint = FakeEndpoint(reply_response("2"))
    await generate(new_model(endpoint), DECISION)
    body = endpoint.bodies[0]
    assert body["grammar"] == 'root ::= "1" | "2" | "10"'
    assert (body["temperature"], body["logprobs"], body["top_logprobs"]) == (0.0, True, 20)
    assert 2 <= body["max_tokens"] <= 20


@asynchronous
async def test_the_probabilities_are_those_of_the_first_token() -> None:
    """Alternatives that begin an option, with or without a space, are its probability, normalised
    over all options."""
    logprobs = chat_logprobs("A", A=-0.5, B=-2.0, **{" A": -3.0, "The": -1.0})
    endpoint = FakeEndpoint(stream_response(scored("A", logprobs), delta(None, "stop"), DONE))
    prompt = msgspec.structs.replace(CHAT, options=("A", "B", "C"))
    text, usage = await generate(new_model(endpoint), prompt)
    assert text == "A"
    assert usage.probabilities == pytest.approx((0.8290, 0.1710, 0.0), abs=0.0001)


@asynchronous
async def test_a_completion_reports_its_alternatives_in_another_form() -> None:
    """The alternatives of a text prompt are read from the form that completions have."""
    logprobs = {"tokens": [" b"], "top_logprobs": [{" b": -0.1, " a": -0.1}]}
    choice = {"text": " b", "logprobs": logprobs, "finish_reason": "stop"}
    endpoint = FakeEndpoint(stream_response(event({"choices": [choice]}), DONE))
    prompt = Prompt(text="a or b?", options=(" a", " b"))
    text, usage = await generate(new_model(endpoint), prompt)
    assert text == " b"
    assert usage.probabilities == pytest.approx((0.5, 0.5))
    assert endpoint.bodies[0]["logprobs"] == 5


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": [{"token": "2"}]},
        {"content": [{"token": 2, "top_logprobs": 3}]},
        {"tokens": ["2"], "top_logprobs": [None]},
        "none",
        chat_logprobs("2", **{"3": -0.1}),
        chat_logprobs("2", **{"1": -1.0, "2": -0.1}),
    ],
)
@asynchronous
async def test_without_usable_alternatives_the_written_option_is_certain(logprobs: Any) -> None:
    """If the alternatives are absent, malformed, or begin several options, the option that the
    model has written has the probability 1."""
    endpoint = FakeEndpoint(stream_response(scored("2", logprobs), delta(None, "stop"), DONE))
    text, usage = await generate(new_model(endpoint), DECISION)
    assert (text, usage.probabilities) == ("2", (0.0, 1.0, 0.0))


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("2", "2"),
        (" 10.", "10"),
        ("**2**", "2"),
        ("Option 1, because 2 is too strict.", "1"),
        ("The answer is: 10\n", "10"),
        ("<think>1 or 10?</think>2", "2"),
    ],
)
@asynchronous
async def test_the_option_is_found_among_other_words(reply: str, option: str) -> None:
    """The option is the first one that occurs as a word of the reply, after any thought."""
    text, usage = await generate(new_model(FakeEndpoint(reply_response(reply))), DECISION)
    assert text == option
    assert usage.probabilities[DECISION.options.index(option)] == 1


@pytest.mark.parametrize("reply", ["3", "", "12", "one", "I cannot decide."])
@asynchronous
async def test_a_reply_without_an_option_is_invalid(reply: str) -> None:
    """A reply that names none of the options fails with `bad_reply`."""
    with pytest.raises(InferenceError) as caught:
        await generate(new_model(FakeEndpoint(reply_response(reply))), DECISION)
    assert caught.value.code == ErrorCode.BAD_REPLY


@pytest.mark.parametrize("status", [400, 422, 500])
@asynchronous
async def test_an_endpoint_without_logprobs_is_asked_without_them(status: int) -> None:
    """If the endpoint rejects `logprobs`, the request is sent without it; the next request starts
    with the form that was accepted, and other prompts are unaffected."""
    refusal = error_response(status, {"error": {"message": "logprobs is not supported"}})
    endpoint = FakeEndpoint(refusal, refusal, reply_response("2"), reply_response("1"))
    model = new_model(endpoint)
    events = [event async for event in model.generate(DECISION)]
    assert events[0] == TextDelta("2")
    await generate(model, DECISION)
    assert ["logprobs" in body for body in endpoint.bodies] == [True, True, False, False]


@asynchronous
async def test_unusable_options_send_no_request() -> None:
    """A single option fails with `bad_grammar` before anything is sent."""
    endpoint = FakeEndpoint(reply_response("1"))
    with pytest.raises(InferenceError) as caught:
        await generate(new_model(endpoint), msgspec.structs.replace(CHAT, options=("1",)))
    assert (caught.value.code, endpoint.requests) == (ErrorCode.BAD_GRAMMAR, [])
