"""Failed requests to an endpoint: typed errors that reveal no secret."""

from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.errors import BadRequest, InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.fake_endpoint import (
    KEY,
    FakeEndpoint,
    error_response,
    generate,
    new_model,
)
from tests.support.loop import asynchronous

OVERFLOW = "This model's maximum context length is 2048 tokens, however you requested 3001 tokens."


@pytest.mark.parametrize("key", ["two words", "ключ", "line\nbreak"])
def test_a_malformed_key_is_refused_and_not_shown(key: str) -> None:
    """A key that cannot be sent in a header is rejected, and the error does not contain the key."""
    with pytest.raises(BadRequest) as caught:
        new_model(lambda request: httpx.Response(200), key=key)
    assert caught.value.code == ErrorCode.BAD_SETTING
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "socks4://ada:secret@proxy"),
        ("HTTPS_PROXY", "http://ada:secret@proxy:port"),
        ("SSL_CERT_FILE", "/missing/ca.pem"),
        ("SSL_CERT_DIR", "/missing"),
    ],
)
def test_an_unusable_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A proxy or certificates that cannot be used are rejected; the error names the variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadRequest, match=variable) as caught:
        EndpointClient(Endpoint("https://endpoint.invalid/v1", "m"), KEY, read_timeout=1.0)
    assert caught.value.code == ErrorCode.BAD_SETTING
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (
            401,
            {"error": {"message": f"Incorrect API key: {KEY}"}},
            ErrorCode.ENDPOINT_UNAUTHORIZED,
            False,
        ),
        (403, None, ErrorCode.ENDPOINT_UNAUTHORIZED, False),
        (402, None, ErrorCode.ENDPOINT_UNPAID, False),
        (404, None, ErrorCode.MODEL_NOT_FOUND, False),
        (400, {"error": {"code": "model_not_found"}}, ErrorCode.MODEL_NOT_FOUND, False),
        (400, {"error": {"code": "context_length_exceeded"}}, ErrorCode.CONTEXT_OVERFLOW, False),
        (400, {"error": {"type": "exceed_context_size_error"}}, ErrorCode.CONTEXT_OVERFLOW, False),
        (400, {"object": "error", "message": OVERFLOW}, ErrorCode.CONTEXT_OVERFLOW, False),
        (500, {"error": {"message": OVERFLOW}}, ErrorCode.CONTEXT_OVERFLOW, False),
        (400, {"error": "no"}, ErrorCode.ENDPOINT_REFUSED, False),
        (422, {"detail": [{"msg": "no"}]}, ErrorCode.ENDPOINT_REFUSED, False),
        (500, {"error": {"message": "1 validation error: no"}}, ErrorCode.ENDPOINT_REFUSED, False),
        (400, [1], ErrorCode.ENDPOINT_REFUSED, False),
        (405, None, ErrorCode.ENDPOINT_REFUSED, False),
        (413, None, ErrorCode.REQUEST_TOO_LONG, False),
        (302, None, ErrorCode.ENDPOINT_MOVED, False),
        (429, {"error": {"code": "insufficient_quota"}}, ErrorCode.ENDPOINT_UNPAID, False),
        (429, {"error": {"code": "rate_limit_exceeded"}}, ErrorCode.ENDPOINT_BUSY, True),
        (408, None, ErrorCode.ENDPOINT_BUSY, True),
        (500, {"error": {"message": "boom"}}, ErrorCode.ENDPOINT_BUSY, True),
        (503, None, ErrorCode.ENDPOINT_BUSY, True),
    ],
)
@asynchronous
async def test_each_error_response_becomes_a_typed_error(
    status: int, body: Any, code: str, retryable: bool
) -> None:
    """An error response becomes a typed error whose code depends on the status and on the body,
    which may have any form."""
    error, _ = await _error_and_logs(status, body)
    assert (error.code, error.retryable) == (code, retryable)


async def _error_and_logs(status: int, body: Any) -> tuple[InferenceError, list[Any]]:
    with capture_logs() as logs, pytest.raises(InferenceError) as caught:
        await generate(new_model(lambda request: error_response(status, body)))
    return caught.value, logs


@asynchronous
async def test_a_quoted_key_is_neither_shown_nor_logged() -> None:
    """A key that the endpoint quotes in an error reaches neither the caller nor the log."""
    for status in (400, 401, 404, 500):
        body = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
        error, logs = await _error_and_logs(status, body)
        assert KEY not in repr(error.as_dict())
        assert KEY not in repr(logs)
        assert [each["status"] for each in logs if each["event"] == "endpoint.request_failed"]


@asynchronous
async def test_retry_after_is_passed_on() -> None:
    """A Retry-After header with a plausible number of seconds is passed on in the error; any other
    value is ignored."""
    for value, details in [("7", {"retry_after": 7}), ("soon", {}), ("-1", {}), ("9" * 40, {})]:
        response = error_response(429, None, **{"Retry-After": value})
        with pytest.raises(InferenceError) as caught:
            await generate(new_model(FakeEndpoint(response)))
        assert caught.value.details == details


@asynchronous
async def test_an_endless_error_response_is_read_in_part_only() -> None:
    """Only the beginning of an endless error response is read."""
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 10_000

    with pytest.raises(InferenceError) as caught:
        await generate(new_model(lambda request: httpx.Response(500, content=endless())))
    assert caught.value.code == ErrorCode.ENDPOINT_BUSY
    assert read < 20


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (httpx.ConnectError("refused"), ErrorCode.ENDPOINT_UNREACHABLE),
        (httpx.ConnectTimeout("slow"), ErrorCode.ENDPOINT_UNREACHABLE),
        (httpx.ReadTimeout("silent"), ErrorCode.ENDPOINT_TIMEOUT),
        (httpx.ReadError("reset"), ErrorCode.ENDPOINT_CUT),
        (httpx.RemoteProtocolError("not HTTP"), ErrorCode.ENDPOINT_CUT),
    ],
)
@asynchronous
async def test_a_network_error_is_retryable(failure: Exception, code: str) -> None:
    """A network error is retryable, and its message does not contain the endpoint's address."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(InferenceError) as caught:
        await generate(new_model(fail))
    assert (caught.value.code, caught.value.retryable) == (code, True)
    assert "endpoint.test" not in caught.value.message
