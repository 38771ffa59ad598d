"""Remote reasoning models, and endpoints that are strict about roles."""

from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from prepserver.engines.openai.language import OpenAILanguageModel
from prepserver.engines.types import ChatTurn, Prompt, TextDelta
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

QUESTION = "Why did you choose an index on two columns?"
HARMONY_REPLY = "<|start|>assistant<|channel|>final<|message|>"
INTERVIEW = Prompt(
    turns=(
        ChatTurn("system", "Interview."),
        ChatTurn("assistant", "Which index?"),
        ChatTurn("user", "On two columns."),
        ChatTurn("user", "(Ask on.)"),
    ),
    max_tokens=50,
    purpose="question",
)


async def ask(model: OpenAILanguageModel, prompt: Prompt = CHAT) -> list[str]:
    """Return the deltas of one reply."""
    return [part.text async for part in model.generate(prompt) if isinstance(part, TextDelta)]


def thought_delta(field: str, value: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {field: value}, "finish_reason": None}]})


def truncated_response(*texts: str) -> httpx.Response:
    """Return a chat reply that reached its token limit."""
    return stream_response(*(delta(text) for text in texts), delta(None, "length"), DONE)


# --- Thoughts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        ("<think>\nIs it? ", "Maybe.\n</think>\n\n", QUESTION),
        ("<th", "ink>Is it?</thi", "nk>", QUESTION),
        ("<THINK>Is it?</THINK>" + QUESTION,),
        ("[THINK]Is it?[/THINK]", QUESTION),
        ("&lt;think&gt;Is it?&lt;/think&gt;\n\n", QUESTION),
        ("Okay, is it?", "</think>\n\n" + QUESTION),
        ("<|channel|>analysis<|message|>Is it?<|end|>", HARMONY_REPLY + QUESTION),
        ("analysisWe", " ask. Is it?assistantfinal", QUESTION),
    ],
)
@asynchronous
async def test_a_thought_in_the_text_is_removed(texts: tuple[str, ...]) -> None:
    """A thought in the text of a reply is removed."""
    text, usage = await generate(new_model(FakeEndpoint(reply_response(*texts))))
    assert (text, usage.thought) == (QUESTION, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reasoning_content", "Is it?"),
        ("reasoning", "Is it?"),
        ("reasoning_details", [{"type": "reasoning.text", "text": "Is it?"}]),
        ("thinking", {"text": "Is it?"}),
        ("content", [{"type": "thinking", "thinking": [{"type": "text", "text": "Is it?"}]}]),
    ],
)
@asynchronous
async def test_a_thought_apart_from_the_text_is_removed(field: str, value: Any) -> None:
    """A thought that the endpoint sends in a field of its own is removed, and the text streams."""
    model = new_model(
        FakeEndpoint(
            stream_response(
                thought_delta(field, value), delta("Let's "), delta("begin."), delta(None, "stop")
            )
        )
    )
    assert await ask(model) == ["Let's ", "begin."]
    await model.close()


@asynchronous
async def test_a_thought_before_json_is_removed() -> None:
    """Braces in a thought are not taken for the JSON of a reply to a schema."""
    prompt = Prompt(turns=CHAT.turns, schema={"type": "object"}, max_tokens=50)
    for thought in ("<think>{maybe}</think>", "Okay, {maybe}</think>"):
        endpoint = FakeEndpoint(reply_response(thought, '{"skills": []}'))
        text, _ = await generate(new_model(endpoint), prompt)
        assert msgspec.json.decode(text) == {"skills": []}


@pytest.mark.parametrize(
    "only_thought",
    [
        pytest.param(lambda: reply_response("<think>Is it?</think>\n"), id="closed"),
        pytest.param(lambda: truncated_response("<think>Is it?"), id="unclosed"),
        pytest.param(lambda: truncated_response("Okay, is it?"), id="unmarked"),
        pytest.param(lambda: truncated_response(), id="invisible"),
        pytest.param(
            lambda: stream_response(thought_delta("reasoning", "Is it?"), delta("", "stop"), DONE),
            id="apart",
        ),
    ],
)
@asynchronous
async def test_a_reply_that_is_only_a_thought_is_asked_for_without_it(only_thought: Any) -> None:
    """A reply that is only a thought is asked for once more, without a thought and with tokens for
    one."""
    endpoint = FakeEndpoint(only_thought(), reply_response(QUESTION))
    text, usage = await generate(new_model(endpoint, thinking_tokens=700))
    assert (text, usage.thought) == (QUESTION, True)
    first, second = endpoint.bodies
    assert (first["max_tokens"], second["max_tokens"]) == (50, 750)
    assert "chat_template_kwargs" not in first
    assert second["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert "/no_think" in second["messages"][-1]["content"]


@asynchronous
async def test_a_model_that_only_thinks_gives_an_empty_reply() -> None:
    """If the second reply is only a thought, too, the reply is empty and the endpoint is not asked
    again."""
    endpoint = FakeEndpoint(lambda request: truncated_response("<think>Is it?"))
    text, _ = await generate(new_model(endpoint))
    assert (text, len(endpoint.requests)) == ("", 2)


@asynchronous
async def test_a_thinking_model_gets_tokens_for_its_thoughts() -> None:
    """Once the model has thought, further requests allow additional tokens, unless the endpoint has
    no room for them in the context."""
    overflow = error_response(400, {"error": {"code": "context_length_exceeded"}})
    endpoint = FakeEndpoint(
        reply_response("<think>Is it?</think>Why?"),
        reply_response("<think>Is it?</think>How?"),
        overflow,
        reply_response("When?"),
    )
    model = new_model(endpoint, thinking_tokens=700)
    assert [await ask(model) for _ in range(3)] == [["Why?"], ["How?"], ["When?"]]
    await model.close()
    assert [body["max_tokens"] for body in endpoint.bodies] == [50, 750, 750, 50]


@asynchronous
async def test_without_tokens_for_thoughts_the_model_is_asked_not_to_think() -> None:
    """With `thinking_tokens` 0, the first request asks for a reply without a thought."""
    endpoint = FakeEndpoint(reply_response("<think></think>Why?"))
    text, _ = await generate(new_model(endpoint, thinking_tokens=0))
    assert (text, len(endpoint.requests)) == ("Why?", 1)
    assert endpoint.bodies[0]["chat_template_kwargs"]["enable_thinking"] is False


@asynchronous
async def test_a_model_that_begins_inside_a_thought_is_remembered() -> None:
    """Once a reply has begun inside a thought, later replies are kept back until the thought has
    ended, whatever their first words are."""
    endpoint = FakeEndpoint(
        reply_response("Okay, is it?", "</think>Why?"),
        reply_response("Fine. Is it?", "</think>", "How", " so?"),
    )
    model = new_model(endpoint)
    assert await ask(model) == ["Why?"]
    assert await ask(model) == ["How", " so?"]
    await model.close()


@asynchronous
async def test_a_thought_that_was_taken_for_text_fails_once() -> None:
    """If a thought without an opening mark was released, the reply fails with a retryable error,
    and later replies are kept back."""
    endpoint = FakeEndpoint(lambda request: reply_response("Fine. Is it? ", "</think>", "Why?"))
    model = new_model(endpoint)
    with pytest.raises(InferenceError) as caught:
        await ask(model)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_REPLY, True)
    assert await ask(model) == ["Why?"]
    await model.close()


@asynchronous
async def test_a_model_that_does_not_think_streams() -> None:
    """A reply whose first words may begin a thought is kept back, but after it the model is known
    not to begin inside a thought, and replies are streamed."""
    endpoint = FakeEndpoint(lambda request: reply_response("Let's ", "begin. ", "Why?"))
    model = new_model(endpoint)
    assert await ask(model) == ["Let's begin. Why?"]
    assert await ask(model) == ["Let's ", "begin. ", "Why?"]
    await model.close()


@asynchronous
async def test_an_endless_thought_is_cut_off() -> None:
    """A thought that exceeds its tokens many times over fails with a typed error."""
    endless = [thought_delta("reasoning", "x" * 10_000)] * 100
    with pytest.raises(InferenceError) as caught:
        await generate(new_model(FakeEndpoint(stream_response(*endless))))
    assert caught.value.code == ErrorCode.BAD_REPLY


# --- Roles --------------------------------------------------------------------------------------


def role_checking_endpoint(status: int, message: str, *, system: bool) -> FakeEndpoint:
    """Return an endpoint that accepts only user and assistant turns in alternation, optionally
    after a system turn."""

    def respond(request: httpx.Request) -> httpx.Response:
        roles = [message["role"] for message in msgspec.json.decode(request.content)["messages"]]
        if system and roles[0] == "system":
            del roles[0]
        if any(role != ("user", "assistant")[n % 2] for n, role in enumerate(roles)):
            return error_response(status, {"error": {"message": message}})
        return reply_response(QUESTION)

    return FakeEndpoint(respond)


@pytest.mark.parametrize(
    ("status", "message", "system"),
    [
        (400, "conversation roles must alternate user/assistant/user/assistant/...", True),
        (400, "System role not supported", False),
        (422, "Template error: roles must alternate", True),
        (500, "Jinja Exception: Conversation roles must alternate", True),
        (400, "", False),
    ],
)
@asynchronous
async def test_turns_alternate_for_an_endpoint_that_requires_it(
    status: int, message: str, system: bool
) -> None:
    """If an endpoint rejects the roles of a chat, the request is repeated once with turns in
    alternation, and later requests are sent in the same way."""
    endpoint = role_checking_endpoint(status, message, system=system)
    model = new_model(endpoint)
    for _ in range(2):
        assert "".join(await ask(model, INTERVIEW)) == QUESTION
    await model.close()
    assert len(endpoint.requests) == 3
    assert endpoint.bodies[-1]["messages"] == [
        {"role": "user", "content": "Interview."},
        {"role": "assistant", "content": "Which index?"},
        {"role": "user", "content": "On two columns.\n\n(Ask on.)"},
    ]


@asynchronous
async def test_roles_and_fields_may_both_be_rejected() -> None:
    """An endpoint that is strict about roles and about request fields is served."""
    strict = role_checking_endpoint(400, "roles", system=True)

    def respond(request: httpx.Request) -> httpx.Response:
        if "top_k" in msgspec.json.decode(request.content):
            return error_response(400, {"error": {"message": "unknown field"}})
        return strict(request)

    text, _ = await generate(new_model(respond), INTERVIEW)
    assert text == QUESTION


@asynchronous
async def test_turns_are_not_rearranged_without_need() -> None:
    """An endpoint that accepts the turns receives them as they are."""
    endpoint = FakeEndpoint(reply_response(QUESTION))
    await generate(new_model(endpoint), INTERVIEW)
    roles = [message["role"] for message in endpoint.bodies[0]["messages"]]
    assert roles == [turn.role for turn in INTERVIEW.turns]


# --- Reasons ------------------------------------------------------------------------------------

REASON = "After the optional system message, conversation roles must alternate"


def fields(**content: Any) -> bytes:
    return msgspec.json.encode(content)


@pytest.mark.parametrize(
    "body",
    [
        fields(error={"message": REASON, "type": "BadRequestError", "code": 400}),
        fields(object="error", message=REASON, code=400),
        fields(error=REASON),
        fields(error={"error": REASON}),
        fields(detail=REASON),
        fields(
            detail=[{"loc": ["body", 0], "msg": REASON, "input": {"content": "On two columns."}}]
        ),
        fields(errors=[{"message": REASON}]),
        msgspec.json.encode([{"error": {"message": REASON}}]),
        msgspec.json.encode(REASON),
        f"<html><head><style>p {{}}</style></head><body><p>{REASON}</p></body></html>".encode(),
        REASON.encode(),
        f"  {REASON}\r\n\x1b[31m".encode(),
        b"\xff\xfe " + REASON.encode(),
        REASON.encode() + b" x" * 200_000,
        fields(error={"message": f"{REASON}: [user: On two columns., key sk-abcdefgh1234]"}),
    ],
)
@asynchronous
async def test_the_reason_of_a_refusal_is_logged(body: bytes) -> None:
    """A refusal of any form is logged with its reason, as one line of limited length, without the
    candidate's words and without keys."""
    endpoint = FakeEndpoint(httpx.Response(400, content=body))
    with capture_logs() as logs, pytest.raises(InferenceError) as caught:
        await generate(new_model(endpoint), INTERVIEW)
    assert caught.value.code == ErrorCode.ENDPOINT_REFUSED
    reason = next(each["reason"] for each in logs if each["event"] == "endpoint.request_failed")
    assert REASON in reason
    assert len(reason) <= 300
    assert reason.isprintable()
    assert "two columns" not in reason
    assert "sk-" not in reason


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\0" * 9, b"[" * 60_000, b"<" * 60_000]
)
@asynchronous
async def test_a_refusal_without_a_reason_is_a_typed_error(body: bytes) -> None:
    """A refusal whose body has no message is a typed error, too."""
    with pytest.raises(InferenceError) as caught:
        await generate(new_model(FakeEndpoint(httpx.Response(400, content=body))), INTERVIEW)
    assert caught.value.code == ErrorCode.ENDPOINT_REFUSED
