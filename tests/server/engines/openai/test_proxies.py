"""Requests to an endpoint behind proxies, over loopback."""

import asyncio

import pytest

from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.fake_proxy import UNCLOSED_SOCKETS, FakeProxy, no_proxies

__all__ = ["no_proxies"]

pytestmark = UNCLOSED_SOCKETS


async def _get(scheme: str = "http", read_timeout: float = 5.0) -> bytes:
    endpoint = Endpoint(f"{scheme}://endpoint.invalid/v1", "m")
    client = EndpointClient(endpoint, "key", read_timeout=read_timeout)
    try:
        return await client.get("/models")
    finally:
        await client.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("scheme", ["http", "socks", "socks5", "socks5h"])
def test_requests_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The proxy looks up the endpoint's name and forwards the request."""

    async def test() -> list[str]:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0)
        async with server, FakeProxy(server.sockets[0].getsockname()[1]) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
            assert await _get() == b"ok"
            return proxy.hosts

    assert [host.removesuffix(":80") for host in asyncio.run(test())] == ["endpoint.invalid"]


@pytest.mark.parametrize("endpoint", ["http", "https"])
@pytest.mark.parametrize(
    ("scheme", "reply", "code"),
    [
        ("http", b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", ErrorCode.ENDPOINT_UNREACHABLE),
        ("http", b"SSH-2.0-OpenSSH\r\n", ErrorCode.ENDPOINT_CUT),
        ("http", b"", ErrorCode.ENDPOINT_CUT),
        ("socks5", b"", ErrorCode.ENDPOINT_UNREACHABLE),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorCode.ENDPOINT_UNREACHABLE),
        ("socks", b"SSH-2.0-OpenSSH\r\n", ErrorCode.ENDPOINT_UNREACHABLE),
        ("socks5", b"\x05\xff", ErrorCode.ENDPOINT_UNREACHABLE),
        ("socks5", b"\x05", ErrorCode.ENDPOINT_UNREACHABLE),
        ("socks5h", b"\x05\x02\x01\x01", ErrorCode.ENDPOINT_UNREACHABLE),
    ],
)
def test_failing_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, scheme: str, reply: bytes, code: ErrorCode
) -> None:
    """If a proxy refuses, closes the connection or is something else, InferenceError names its
    variable but neither its address nor its password."""

    async def test() -> None:
        async with FakeProxy(0, reply=reply) as proxy:
            address = f"127.0.0.1:{proxy.port}"
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://ada:secret@{address}")
            with pytest.raises(InferenceError, match="ALL_PROXY") as caught:
                await _get(endpoint)
            assert (caught.value.code, caught.value.retryable) == (code, True)
            assert "secret" not in str(caught.value)
            assert address not in str(caught.value)

    asyncio.run(test())


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_silent_or_closed_proxy_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A proxy that says nothing, or whose port is closed, ends in InferenceError with the
    variable."""
    monkeypatch.setattr("prepserver.engines.openai.client.CONNECT_TIMEOUT", 0.05)

    async def test() -> None:
        async with FakeProxy(0, reply=None) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
            with pytest.raises(InferenceError, match="ALL_PROXY"):
                await _get(read_timeout=0.05)
        with pytest.raises(InferenceError, match="ALL_PROXY") as caught:
            await _get()
        assert caught.value.code == ErrorCode.ENDPOINT_UNREACHABLE

    asyncio.run(test())
