"""Remote language model: requests and the handling of replies."""

import json
import re
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.language import OpenAILanguageModel
from prepserver.engines.types import ChatTurn, Prompt, TextDelta
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.fake_endpoint import (
    CHAT,
    DONE,
    KEY,
    ByteStream,
    FakeEndpoint,
    delta,
    error_response,
    event,
    generate,
    new_model,
    reply_response,
    stream_response,
)
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

SCHEMA = {"type": "object", "properties": {"skills": {"type": "array"}}}
STRUCTURED = Prompt(turns=CHAT.turns, schema=SCHEMA, max_tokens=50, purpose="skills")


def list_response(*listed: Any) -> httpx.Response:
    return httpx.Response(200, json={"object": "list", "data": listed})


# --- Requests -----------------------------------------------------------------------------------


@asynchronous
async def test_a_chat_is_sent_to_chat_completions() -> None:
    """A chat request contains the key, all sampling options and the grammar."""
    endpoint = FakeEndpoint(reply_response("Why", " now?"))
    prompt = msgspec.structs.replace(CHAT, grammar='root ::= "x"', seed=7)
    text, _ = await generate(new_model(endpoint), prompt)
    assert text == "Why now?"
    request, body = endpoint.requests[0], endpoint.bodies[0]
    assert str(request.url) == "http://endpoint.test/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "Ask."}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 50,
        "temperature": 0.7,
        "top_p": 0.95,
        "seed": 7,
        "top_k": 40,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "grammar": 'root ::= "x"',
    }


@asynchronous
async def test_a_text_prompt_is_sent_to_completions() -> None:
    """A text prompt is sent to `/completions` with the prescribed first words of the reply
    appended."""
    endpoint = FakeEndpoint(
        stream_response(event({"choices": [{"text": " b", "finish_reason": "stop"}]}), DONE)
    )
    text, _ = await generate(new_model(endpoint), Prompt(text="a", opening=" and"))
    assert text == " b"
    assert endpoint.requests[0].url.path == "/v1/completions"
    assert endpoint.bodies[0]["prompt"] == "a and"


@asynchronous
async def test_no_authorization_is_sent_without_a_key() -> None:
    """Without a key, no Authorization header is sent."""
    endpoint = FakeEndpoint(reply_response("Fine."))
    await generate(new_model(endpoint, key=""))
    assert "Authorization" not in endpoint.requests[0].headers


@asynchronous
async def test_a_chat_with_prescribed_first_words_is_refused() -> None:
    """A chat prompt with `opening` is rejected, because the protocol cannot prescribe the first
    words of a reply."""
    with pytest.raises(InferenceError) as caught:
        await generate(
            new_model(FakeEndpoint(reply_response("x"))),
            msgspec.structs.replace(CHAT, opening="Well,"),
        )
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_CHAT, False)


@asynchronous
async def test_a_limit_of_zero_tokens_sends_no_request() -> None:
    """A prompt that allows zero tokens gets an empty reply, and no request is sent."""
    endpoint = FakeEndpoint(reply_response("x"))
    text, usage = await generate(new_model(endpoint), msgspec.structs.replace(CHAT, max_tokens=0))
    assert (text, usage.completion_tokens, endpoint.requests) == ("", 0, [])


@asynchronous
async def test_prefill_offload_and_discard_send_no_request() -> None:
    """Prefill, offload and discard send no request, because the protocol has no such operations and
    a prompt may cost money."""
    endpoint = FakeEndpoint(reply_response("x"))
    model = new_model(endpoint)
    await model.prefill(CHAT)
    await model.offload("i")
    await model.discard("i")
    await model.close()
    assert endpoint.requests == []


# --- Dialects -----------------------------------------------------------------------------------


def strict_endpoint(*known: str, formats: tuple[str, ...] = ()) -> FakeEndpoint:
    """Return an endpoint that accepts only the basic fields, the fields in `known` and the response
    formats in `formats`."""

    def respond(request: httpx.Request) -> httpx.Response:
        body = msgspec.json.decode(request.content)
        unknown = body.keys() - {"model", "messages", "stream", *known}
        form = body.get("response_format")
        if unknown or (form and form["type"] not in formats):
            return error_response(400, {"error": {"message": f"unknown: {unknown or form}"}})
        return reply_response('{"skills": []}')

    return FakeEndpoint(respond)


STANDARD = ("max_tokens", "temperature", "top_p", "seed", "stream_options")
EXTENDED = (*STANDARD, "top_k", "min_p", "repeat_penalty", "grammar")
FORMAT = "response_format"


@pytest.mark.parametrize(
    ("known", "formats", "requests"),
    [
        ((*EXTENDED, FORMAT), ("json_schema",), 1),
        ((*STANDARD, FORMAT), ("json_schema",), 2),
        ((*EXTENDED, FORMAT), ("json_object",), 3),
        ((*STANDARD, FORMAT), ("json_object",), 4),
        (("max_completion_tokens", FORMAT), ("json_schema",), 5),
        (STANDARD, (), 6),
        (("max_completion_tokens",), (), 7),
    ],
)
@asynchronous
async def test_the_richest_accepted_dialect_is_found_once_and_kept(
    known: tuple[str, ...], formats: tuple[str, ...], requests: int
) -> None:
    """Dialects are tried in order until the endpoint accepts a request, and the accepted dialect is
    used for later requests."""
    endpoint = strict_endpoint(*known, formats=formats)
    model = new_model(endpoint)
    for _ in range(3):
        async for _ in model.generate(STRUCTURED):
            pass
    await model.close()
    assert len(endpoint.requests) == requests + 2
    last = endpoint.bodies[-1]
    instructions = f"{last.get(FORMAT, '')}{last['messages']}"
    assert "skills" in instructions, "the schema must be sent, if only as a message"


@asynchronous
async def test_a_request_refused_in_every_dialect_fails() -> None:
    """A request that is rejected in every dialect fails, and the next request starts with the
    richest dialect."""
    endpoint = FakeEndpoint(error_response(400, {"error": {"message": "no"}}))
    model = new_model(endpoint)
    for _ in range(2):
        with pytest.raises(InferenceError) as caught:
            async for _ in model.generate(CHAT):
                pass
    await model.close()
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.ENDPOINT_REFUSED, False)
    assert ["top_k" in body for body in endpoint.bodies] == [True, False, False] * 2


@asynchronous
async def test_other_errors_do_not_lead_to_another_dialect() -> None:
    """After an error that no other dialect can avoid, such as a wrong key, no other dialect is
    tried."""
    for status in (401, 404, 413, 429, 500):
        endpoint = FakeEndpoint(error_response(status))
        with pytest.raises(InferenceError):
            await generate(new_model(endpoint))
        assert len(endpoint.requests) == 1


# --- Replies ------------------------------------------------------------------------------------


@asynchronous
async def test_token_counts_are_those_of_the_endpoint() -> None:
    """The usage contains the token counts that the endpoint sends after the last text."""
    counts = {
        "prompt_tokens": 90,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    response = stream_response(
        delta(""), delta("Hm."), delta(None, "stop"), event({"choices": [], "usage": counts}), DONE
    )
    text, usage = await generate(new_model(FakeEndpoint(response)))
    assert text == "Hm."
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (90, 64, 2)


@asynchronous
async def test_without_token_counts_the_events_are_counted() -> None:
    """If the endpoint sends no token counts, each event with text counts as one token."""
    _, usage = await generate(new_model(FakeEndpoint(reply_response("a", " b", " c"))))
    assert (usage.prompt_tokens, usage.completion_tokens) == (0, 3)


@asynchronous
async def test_a_stream_may_end_without_done() -> None:
    """A reply with a finish reason is complete even if the stream ends without [DONE]."""
    text, _ = await generate(new_model(FakeEndpoint(stream_response(delta("Fine.", "stop")))))
    assert text == "Fine."


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("end", [b"", b"\n"])
@asynchronous
async def test_an_endpoint_may_send_its_reply_at_once(indent: int | None, end: bytes) -> None:
    """A reply that is one JSON object instead of a stream is read like a stream."""
    message = {"role": "assistant", "content": "<think>Hm?</think>Fine.\n\nWhy?"}
    reply = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 9},
    }
    body = json.dumps(reply, indent=indent).encode() + end
    text, usage = await generate(new_model(FakeEndpoint(stream_response(body[:40], body[40:]))))
    assert (text, usage.completion_tokens, usage.thought) == ("Fine.\n\nWhy?", 9, True)


@asynchronous
async def test_an_endpoint_may_send_its_completion_at_once() -> None:
    """A text completion that is one JSON object is read like a stream."""
    body = json.dumps({"choices": [{"text": "Fine.", "finish_reason": "length"}]}).encode()
    text, _ = await generate(new_model(FakeEndpoint(stream_response(body))), Prompt(text="a"))
    assert text == "Fine."


@pytest.mark.parametrize(
    ("pieces", "code", "retryable"),
    [
        ([b'{"choices": [{"message": {"content": "Ha'], ErrorCode.BAD_REPLY, True),
        ([b'{"error": {"message": "boom"}}'], ErrorCode.ENDPOINT_FAILED, True),
        ([], ErrorCode.ENDPOINT_CUT, True),
        ([DONE], ErrorCode.ENDPOINT_CUT, True),
        ([delta("Half")], ErrorCode.ENDPOINT_CUT, True),
        ([delta("Half"), DONE], ErrorCode.ENDPOINT_CUT, True),
        ([delta("Half"), httpx.ReadError("reset")], ErrorCode.ENDPOINT_CUT, True),
        ([delta("Half"), httpx.RemoteProtocolError("incomplete")], ErrorCode.ENDPOINT_CUT, True),
        ([delta("Half"), httpx.ReadTimeout("silent")], ErrorCode.ENDPOINT_TIMEOUT, True),
        ([delta("Half"), event(b"{not json")], ErrorCode.BAD_REPLY, True),
        ([delta("Half"), event(b"[]")], ErrorCode.BAD_REPLY, True),
        ([event({"choices": "none"})], ErrorCode.BAD_REPLY, True),
        ([event({"choices": [{"delta": {"content": 5}}]})], ErrorCode.BAD_REPLY, True),
        ([b"<html>a page</html>"], ErrorCode.ENDPOINT_CUT, True),
        ([delta("Half"), event({"error": {"message": "boom"}})], ErrorCode.ENDPOINT_FAILED, True),
        (
            [event({"error": {"code": "context_length_exceeded"}})],
            ErrorCode.CONTEXT_OVERFLOW,
            False,
        ),
        ([delta(None, "content_filter"), DONE], ErrorCode.REPLY_REFUSED, False),
        ([delta("x" * 10_000)] * 10, ErrorCode.BAD_REPLY, True),
    ],
)
@asynchronous
async def test_an_invalid_reply_is_a_typed_error(
    pieces: list[bytes | Exception], code: str, retryable: bool
) -> None:
    """A reply that is cut off, malformed, endless, withheld or replaced by an error fails with a
    typed error, and the connection to the endpoint is closed."""
    stream = ByteStream(pieces)
    with pytest.raises(InferenceError) as caught:
        await generate(new_model(FakeEndpoint(httpx.Response(200, stream=stream))))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert stream.closed


@asynchronous
async def test_closing_the_reply_closes_the_connection() -> None:
    """Closing a reply early closes the connection to the endpoint."""
    stream = ByteStream([delta("a"), delta("b")] + [delta("c")] * 100)
    model = new_model(FakeEndpoint(httpx.Response(200, stream=stream)))
    events = model.generate(CHAT)
    assert await anext(events) == TextDelta("a")
    assert not stream.closed
    await events.aclose()
    assert stream.closed
    await model.close()


@pytest.mark.parametrize(
    "texts",
    [
        ('{"skills": ["a"]}',),
        ('Sure!\n```json\n{"skills": ["a"]}\n```\nAnything else?',),
        ("The list [of one]: ", '{"ski', 'lls": ', '["a"', "]", "} {}"),
    ],
)
@asynchronous
async def test_a_reply_to_a_schema_is_reduced_to_its_json(texts: tuple[str, ...]) -> None:
    """In a reply to a prompt with a schema, words and code fences around the JSON are removed."""
    text, _ = await generate(new_model(FakeEndpoint(reply_response(*texts))), STRUCTURED)
    assert msgspec.json.decode(text) == {"skills": ["a"]}


@asynchronous
async def test_quotes_and_brackets_in_strings_do_not_end_the_json() -> None:
    """Quotes and brackets within JSON strings are text and do not end the JSON value."""
    value = r'{"a": "}]\" {", "b": [{"c": "\\"}]}'
    text, _ = await generate(new_model(FakeEndpoint(reply_response(*value, " more }"))), STRUCTURED)
    assert text == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [("I would rather not.", ""), ('Here: {"skills": ["a"', '{"skills": ["a"')],
)
@asynchronous
async def test_incomplete_json_is_returned_as_it_is(text: str, expected: str) -> None:
    """In a reply to a prompt with a schema, incomplete JSON is returned for the caller to validate,
    and a reply without JSON becomes empty."""
    assert (await generate(new_model(FakeEndpoint(reply_response(text))), STRUCTURED))[
        0
    ] == expected


# --- Served models ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "context", "parameters"),
    [
        (list_response({"id": "gpt"}), 4_096, 0),
        (list_response({"id": "other"}, {"id": "gpt", "max_model_len": 2_048}), 2_048, 0),
        (list_response({"id": "gpt", "context_length": 128_000}), 4_096, 0),
        (list_response({"id": "gpt", "meta": {"n_params": 135, "n_ctx": 512}}), 512, 135),
        (list_response({"id": "gpt", "meta": None, "max_model_len": 0}), 4_096, 0),
        (list_response({"id": "other"}), 4_096, 0),
        (list_response(), 4_096, 0),
        (error_response(404), 4_096, 0),
        (error_response(405), 4_096, 0),
        (httpx.Response(200, content=b"<html>"), 4_096, 0),
        (httpx.Response(200, json={"data": [{"id": 5}]}), 4_096, 0),
    ],
)
@asynchronous
async def test_the_context_and_size_are_those_that_the_endpoint_reports(
    response: httpx.Response, context: int, parameters: int
) -> None:
    """A model has the size and the context that the endpoint reports, but no larger context than
    the setting; a value that the endpoint does not report has a default."""
    model = new_model(FakeEndpoint(response))
    info = await model.start()
    await model.close()
    assert (info.name, info.context, info.parameters) == ("gpt", context, parameters)


@asynchronous
async def test_a_model_of_unknown_size_follows_instructions() -> None:
    """A model of unknown size is prompted with instructions rather than with examples alone."""
    model = new_model(FakeEndpoint(list_response({"id": "gpt"})))
    assert not (await model.start()).few_shot
    await model.close()


@asynchronous
async def test_the_name_of_an_only_model_may_be_omitted() -> None:
    """If the address contains no name and the endpoint serves a single model, that model is
    used."""
    endpoint = FakeEndpoint(list_response({"id": "only"}), reply_response("Fine."))
    model = OpenAILanguageModel(
        Endpoint.parse("openai:http://endpoint.test/v1"),
        ManualClock(),
        transport=httpx.MockTransport(endpoint),
    )
    assert (await model.start()).name == "only"
    await generate(model)
    assert msgspec.json.decode(endpoint.requests[1].content)["model"] == "only"


@pytest.mark.parametrize(
    "response", [list_response({"id": "a"}, {"id": "b"}), list_response(), error_response(404)]
)
@asynchronous
async def test_a_required_name_is_asked_for(response: httpx.Response) -> None:
    """If the address contains no name and the endpoint does not list exactly one model, the error
    says to append a model name to the address after a #."""
    model = OpenAILanguageModel(
        Endpoint.parse("openai:http://endpoint.test/v1"),
        ManualClock(),
        transport=httpx.MockTransport(FakeEndpoint(response)),
    )
    with pytest.raises(InferenceError, match="#") as caught:
        await model.start()
    await model.close()
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.MODEL_NOT_LOADED, False)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(401, ErrorCode.ENDPOINT_UNAUTHORIZED, False), (503, ErrorCode.ENDPOINT_BUSY, True)],
)
@asynchronous
async def test_start_fails_if_the_endpoint_cannot_be_used(
    status: int, code: str, retryable: bool
) -> None:
    """If the key is wrong or the endpoint is busy, `start` fails with a typed error."""
    model = new_model(FakeEndpoint(error_response(status)))
    with pytest.raises(InferenceError) as caught:
        await model.start()
    await model.close()
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


@asynchronous
async def test_an_endless_list_of_models_is_refused() -> None:
    """An endless list of models is rejected instead of filling the memory."""

    async def endless() -> Any:
        while True:
            yield b" " * 100_000

    model = new_model(FakeEndpoint(httpx.Response(200, content=endless())))
    with pytest.raises(InferenceError) as caught:
        await model.start()
    await model.close()
    assert caught.value.code == ErrorCode.BAD_REPLY


@asynchronous
async def test_prompts_do_not_reach_the_log() -> None:
    """A prompt that the endpoint quotes in an error is logged at the level `debug` only."""
    secret = Prompt(turns=(ChatTurn("user", "My name is a secret"),), max_tokens=5)

    def echo(request: httpx.Request) -> httpx.Response:
        return error_response(422, {"detail": request.content.decode()})

    with capture_logs() as logs, pytest.raises(InferenceError):
        await generate(new_model(echo), secret)
    visible = [each for each in logs if each["log_level"] != "debug"]
    assert visible
    assert not re.search("secret", repr(visible))
