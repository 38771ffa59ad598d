"""Requests to an endpoint: what becomes of those that fail."""

from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from prepserver.errors import BadRequest, InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.replies import KEY, Script, language, refused, reply
from tests.support.loop import asynchronous

OVERFLOW = "This model's maximum context length is 2048 tokens, however you requested 3001 tokens."


@pytest.mark.parametrize("key", ["two words", "ключ", "line\nbreak"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(key: str) -> None:
    """A header would be broken by it; the error does not show it."""
    with pytest.raises(BadRequest) as caught:
        language(lambda request: httpx.Response(200), key=key)
    assert caught.value.code == ErrorCode.BAD_SETTING
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (401, {"error": {"message": f"Incorrect API key: {KEY}"}}, "endpoint_unauthorized", False),
        (403, None, "endpoint_unauthorized", False),
        (402, None, "endpoint_unpaid", False),
        (404, None, "model_not_found", False),
        (400, {"error": {"code": "model_not_found"}}, "model_not_found", False),
        (400, {"error": {"code": "context_length_exceeded"}}, "context_overflow", False),
        (400, {"error": {"type": "exceed_context_size_error"}}, "context_overflow", False),
        (400, {"object": "error", "message": OVERFLOW}, "context_overflow", False),
        (500, {"error": {"message": OVERFLOW}}, "context_overflow", False),
        (400, {"error": "no"}, "endpoint_refused", False),
        (422, {"detail": [{"msg": "no"}]}, "endpoint_refused", False),
        (500, {"error": {"message": "1 validation error: no"}}, "endpoint_refused", False),
        (400, [1], "endpoint_refused", False),
        (405, None, "endpoint_refused", False),
        (413, None, "request_too_long", False),
        (302, None, "endpoint_moved", False),
        (429, {"error": {"code": "insufficient_quota"}}, "endpoint_unpaid", False),
        (429, {"error": {"code": "rate_limit_exceeded"}}, "endpoint_busy", True),
        (408, None, "endpoint_busy", True),
        (500, {"error": {"message": "boom"}}, "endpoint_busy", True),
        (503, None, "endpoint_busy", True),
    ],
)
@asynchronous
async def test_what_a_status_means(status: int, body: Any, code: str, retryable: bool) -> None:
    """Endpoints word their refusals differently; each becomes one of a few typed errors."""
    error, _ = await _refused(status, body)
    assert (error.code, error.retryable) == (code, retryable)


async def _refused(status: int, body: Any) -> tuple[InferenceError, list[Any]]:
    with capture_logs() as logs, pytest.raises(InferenceError) as caught:
        await reply(language(lambda request: refused(status, body)))
    return caught.value, logs


@asynchronous
async def test_a_refusal_does_not_repeat_the_key() -> None:
    """Neither to whoever waits nor in the log, though the endpoint quotes it."""
    for status in (400, 401, 404, 500):
        body = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
        error, logs = await _refused(status, body)
        assert KEY not in repr(error.as_dict())
        assert KEY not in repr(logs)
        assert [each["status"] for each in logs if each["event"] == "endpoint.refused"]


@asynchronous
async def test_a_busy_endpoint_may_say_for_how_long() -> None:
    """Whoever waits is told; what is no number of seconds is left out."""
    for value, details in [("7", {"retry_after": 7}), ("soon", {}), ("-1", {}), ("9" * 40, {})]:
        answer = refused(429, None, **{"Retry-After": value})
        with pytest.raises(InferenceError) as caught:
            await reply(language(Script(answer)))
        assert caught.value.details == details


@asynchronous
async def test_a_refusal_without_end_is_not_read_to_its_end() -> None:
    """An endpoint cannot fill the memory with its reasons."""
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 10_000

    with pytest.raises(InferenceError) as caught:
        await reply(language(lambda request: httpx.Response(500, content=endless())))
    assert caught.value.code == ErrorCode.ENDPOINT_BUSY
    assert read < 20


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (httpx.ConnectError("refused"), "endpoint_unreachable"),
        (httpx.ConnectTimeout("slow"), "endpoint_unreachable"),
        (httpx.ReadTimeout("silent"), "endpoint_timeout"),
        (httpx.ReadError("reset"), "endpoint_cut"),
        (httpx.RemoteProtocolError("not HTTP"), "endpoint_cut"),
    ],
)
@asynchronous
async def test_a_request_that_fails_may_be_repeated(failure: Exception, code: str) -> None:
    """Each failure of the network is a typed error."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(InferenceError) as caught:
        await reply(language(fail))
    assert (caught.value.code, caught.value.retryable) == (code, True)
    assert "endpoint.test" not in caught.value.message
