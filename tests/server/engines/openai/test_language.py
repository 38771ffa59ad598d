"""A language model elsewhere: what it is asked, and what is made of its replies."""

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
from tests.server.engines.openai.replies import (
    CHAT,
    DONE,
    KEY,
    Script,
    Stream,
    event,
    language,
    refused,
    reply,
    said,
    spoken,
    streamed,
)
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

SCHEMA = {"type": "object", "properties": {"skills": {"type": "array"}}}
WISH = Prompt(turns=CHAT.turns, schema=SCHEMA, max_tokens=50, purpose="skills")


def models(*listed: Any) -> httpx.Response:
    return httpx.Response(200, json={"object": "list", "data": listed})


# --- What is asked ------------------------------------------------------------------------------


@asynchronous
async def test_a_chat_is_asked_as_a_chat() -> None:
    """With the key in its header, all choices of sampling, and the grammar for who heeds it."""
    script = Script(spoken("Why", " now?"))
    prompt = msgspec.structs.replace(CHAT, grammar='root ::= "x"', seed=7)
    text, _ = await reply(language(script), prompt)
    assert text == "Why now?"
    request, body = script.requests[0], script.bodies[0]
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
async def test_text_is_gone_on_from() -> None:
    """A prompt that is no chat is a completion, its first words decided already."""
    script = Script(streamed(event({"choices": [{"text": " b", "finish_reason": "stop"}]}), DONE))
    text, _ = await reply(language(script), Prompt(text="a", opening=" and"))
    assert text == " b"
    assert script.requests[0].url.path == "/v1/completions"
    assert script.bodies[0]["prompt"] == "a and"


@asynchronous
async def test_without_a_key_none_is_sent() -> None:
    """An endpoint on this machine mostly wants none."""
    script = Script(spoken("Fine."))
    await reply(language(script, key=""))
    assert "Authorization" not in script.requests[0].headers


@asynchronous
async def test_a_chat_cannot_be_given_the_first_words_of_the_reply() -> None:
    """The protocol has no such thing: better an error than a reply that begins twice."""
    with pytest.raises(InferenceError) as caught:
        await reply(language(Script(spoken("x"))), msgspec.structs.replace(CHAT, opening="Well,"))
    assert (caught.value.code, caught.value.retryable) == ("bad_chat", False)


@asynchronous
async def test_nothing_is_asked_for_no_tokens() -> None:
    """A prompt without room for a reply costs no request."""
    script = Script(spoken("x"))
    text, usage = await reply(language(script), msgspec.structs.replace(CHAT, max_tokens=0))
    assert (text, usage.completion_tokens, script.requests) == ("", 0, [])


@asynchronous
async def test_reading_ahead_and_parking_ask_nothing() -> None:
    """The protocol has no such requests, and each prompt may cost money."""
    script = Script(spoken("x"))
    model = language(script)
    await model.prefill(CHAT)
    await model.offload("i")
    await model.discard("i")
    await model.close()
    assert script.requests == []


# --- Endpoints that do not take everything ------------------------------------------------------


def strict(*known: str, formats: tuple[str, ...] = ()) -> Script:
    """An endpoint that refuses fields it does not know."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = msgspec.json.decode(request.content)
        strange = body.keys() - {"model", "messages", "stream", *known}
        form = body.get("response_format")
        if strange or (form and form["type"] not in formats):
            return refused(400, {"error": {"message": f"unknown: {strange or form}"}})
        return spoken('{"skills": []}')

    return Script(answer)


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
async def test_an_endpoint_is_asked_in_a_form_that_it_takes(
    known: tuple[str, ...], formats: tuple[str, ...], requests: int
) -> None:
    """The richest that it does not refuse, found once and kept."""
    script = strict(*known, formats=formats)
    model = language(script)
    for _ in range(3):
        async for _ in model.generate(WISH):
            pass
    await model.close()
    assert len(script.requests) == requests + 2
    last = script.bodies[-1]
    asked = f"{last.get(FORMAT, '')}{last['messages']}"
    assert "skills" in asked, "the schema is stated, in words if in no other way"


@asynchronous
async def test_a_request_that_is_refused_in_every_form_is_refused() -> None:
    """After the last form; the next request begins with the richest again."""
    script = Script(refused(400, {"error": {"message": "no"}}))
    model = language(script)
    for _ in range(2):
        with pytest.raises(InferenceError) as caught:
            async for _ in model.generate(CHAT):
                pass
    await model.close()
    assert (caught.value.code, caught.value.retryable) == ("endpoint_refused", False)
    assert ["top_k" in body for body in script.bodies] == [True, False, False] * 2


@asynchronous
async def test_what_another_form_would_not_help_is_not_asked_again() -> None:
    """A wrong key, a missing model, a prompt that is too long."""
    for status in (401, 404, 413, 429, 500):
        script = Script(refused(status))
        with pytest.raises(InferenceError):
            await reply(language(script))
        assert len(script.requests) == 1


# --- What is made of replies --------------------------------------------------------------------


@asynchronous
async def test_the_endpoint_counts_the_tokens() -> None:
    """Its own figures, from the event behind the last words."""
    counts = {
        "prompt_tokens": 90,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    answer = streamed(
        said(""), said("Hm."), said(None, "stop"), event({"choices": [], "usage": counts}), DONE
    )
    text, usage = await reply(language(Script(answer)))
    assert text == "Hm."
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (90, 64, 2)


@asynchronous
async def test_without_figures_the_events_are_counted() -> None:
    """Most servers send one token in each."""
    _, usage = await reply(language(Script(spoken("a", " b", " c"))))
    assert (usage.prompt_tokens, usage.completion_tokens) == (0, 3)


@asynchronous
async def test_a_stream_may_end_without_its_last_line() -> None:
    """What counts is that the reply was finished."""
    text, _ = await reply(language(Script(streamed(said("Fine.", "stop")))))
    assert text == "Fine."


@pytest.mark.parametrize(
    ("pieces", "code", "retryable"),
    [
        ([], "endpoint_cut", True),
        ([DONE], "endpoint_cut", True),
        ([said("Half")], "endpoint_cut", True),
        ([said("Half"), DONE], "endpoint_cut", True),
        ([said("Half"), httpx.ReadError("reset")], "endpoint_cut", True),
        ([said("Half"), httpx.RemoteProtocolError("incomplete")], "endpoint_cut", True),
        ([said("Half"), httpx.ReadTimeout("silent")], "endpoint_timeout", True),
        ([said("Half"), event(b"{not json")], "bad_reply", True),
        ([said("Half"), event(b"[]")], "bad_reply", True),
        ([event({"choices": "none"})], "bad_reply", True),
        ([event({"choices": [{"delta": {"content": 5}}]})], "bad_reply", True),
        ([b"<html>a page</html>"], "endpoint_cut", True),
        ([said("Half"), event({"error": {"message": "boom"}})], "endpoint_failed", True),
        ([event({"error": {"code": "context_length_exceeded"}})], "context_overflow", False),
        ([said(None, "content_filter"), DONE], "reply_refused", False),
        ([said("x" * 10_000)] * 10, "bad_reply", True),
    ],
)
@asynchronous
async def test_a_reply_that_is_none(
    pieces: list[bytes | Exception], code: str, retryable: bool
) -> None:
    """Cut off, broken, endless or refused: a typed error, and the connection is given back."""
    stream = Stream(pieces)
    with pytest.raises(InferenceError) as caught:
        await reply(language(Script(httpx.Response(200, stream=stream))))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert stream.closed


@asynchronous
async def test_closing_the_reply_closes_the_connection() -> None:
    """Whoever stops listening does not pay for the rest."""
    stream = Stream([said("a"), said("b")] + [said("c")] * 100)
    model = language(Script(httpx.Response(200, stream=stream)))
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
async def test_of_a_reply_to_a_schema_only_the_json_is_given(texts: tuple[str, ...]) -> None:
    """Models put words and fences around it when nothing holds them."""
    text, _ = await reply(language(Script(spoken(*texts))), WISH)
    assert msgspec.json.decode(text) == {"skills": ["a"]}


@asynchronous
async def test_quotes_and_brackets_in_strings_do_not_end_the_json() -> None:
    """A bracket that is quoted is text."""
    whole = r'{"a": "}]\" {", "b": [{"c": "\\"}]}'
    text, _ = await reply(language(Script(spoken(*whole, " more }"))), WISH)
    assert text == whole


@pytest.mark.parametrize(
    ("text", "given"),
    [("I would rather not.", ""), ('Here: {"skills": ["a"', '{"skills": ["a"')],
)
@asynchronous
async def test_json_that_is_not_whole_is_for_its_reader_to_refuse(text: str, given: str) -> None:
    """As when a model on this machine ran out of tokens."""
    assert (await reply(language(Script(spoken(text))), WISH))[0] == given


# --- What the endpoint says of its models -------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "context", "parameters"),
    [
        (models({"id": "gpt"}), 4_096, 0),
        (models({"id": "other"}, {"id": "gpt", "max_model_len": 2_048}), 2_048, 0),
        (models({"id": "gpt", "context_length": 128_000}), 4_096, 0),
        (models({"id": "gpt", "meta": {"n_params": 135, "n_ctx": 512}}), 512, 135),
        (models({"id": "gpt", "meta": None, "max_model_len": 0}), 4_096, 0),
        (models({"id": "other"}), 4_096, 0),
        (models(), 4_096, 0),
        (refused(404), 4_096, 0),
        (refused(405), 4_096, 0),
        (httpx.Response(200, content=b"<html>"), 4_096, 0),
        (httpx.Response(200, json={"data": [{"id": 5}]}), 4_096, 0),
    ],
)
@asynchronous
async def test_what_is_known_of_the_model(
    answer: httpx.Response, context: int, parameters: int
) -> None:
    """What the endpoint tells, and no more than the setting; a list need not be there."""
    model = language(Script(answer))
    info = await model.start()
    await model.close()
    assert (info.name, info.context, info.parameters) == ("gpt", context, parameters)


@asynchronous
async def test_a_model_of_unknown_size_follows_instructions() -> None:
    """Nobody puts a tiny one behind an endpoint without saying so."""
    model = language(Script(models({"id": "gpt"})))
    assert not (await model.start()).few_shot
    await model.close()


@asynchronous
async def test_an_endpoint_that_serves_one_model_need_not_be_told_its_name() -> None:
    """It is taken from the list."""
    script = Script(models({"id": "only"}), spoken("Fine."))
    model = OpenAILanguageModel(
        Endpoint.parse("openai:http://endpoint.test/v1"),
        ManualClock(),
        transport=httpx.MockTransport(script),
    )
    assert (await model.start()).name == "only"
    await reply(model)
    assert msgspec.json.decode(script.requests[1].content)["model"] == "only"


@pytest.mark.parametrize("answer", [models({"id": "a"}, {"id": "b"}), models(), refused(404)])
@asynchronous
async def test_a_name_is_asked_for_where_one_is_needed(answer: httpx.Response) -> None:
    """The error says how to give it."""
    model = OpenAILanguageModel(
        Endpoint.parse("openai:http://endpoint.test/v1"),
        ManualClock(),
        transport=httpx.MockTransport(Script(answer)),
    )
    with pytest.raises(InferenceError, match="#") as caught:
        await model.start()
    await model.close()
    assert (caught.value.code, caught.value.retryable) == ("model_not_loaded", False)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(401, "endpoint_unauthorized", False), (503, "endpoint_busy", True)],
)
@asynchronous
async def test_a_server_that_cannot_be_used_is_noticed_at_the_start(
    status: int, code: str, retryable: bool
) -> None:
    """A wrong key is known before the first candidate comes."""
    model = language(Script(refused(status)))
    with pytest.raises(InferenceError) as caught:
        await model.start()
    await model.close()
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


@asynchronous
async def test_a_list_without_end_is_not_read_to_its_end() -> None:
    """An endpoint cannot fill the memory."""

    async def endless() -> Any:
        while True:
            yield b" " * 100_000

    model = language(Script(httpx.Response(200, content=endless())))
    with pytest.raises(InferenceError) as caught:
        await model.start()
    await model.close()
    assert caught.value.code == ErrorCode.BAD_REPLY


@asynchronous
async def test_the_log_says_who_was_asked_and_not_what() -> None:
    """Answers and documents do not get into it by way of an endpoint that quotes them."""
    secret = Prompt(turns=(ChatTurn("user", "My name is a secret"),), max_tokens=5)

    def echo(request: httpx.Request) -> httpx.Response:
        return refused(422, {"detail": request.content.decode()})

    with capture_logs() as logs, pytest.raises(InferenceError):
        await reply(language(echo), secret)
    shown = [each for each in logs if each["log_level"] != "debug"]
    assert shown
    assert not re.search("secret", repr(shown))
