"""Downloads from the hub behind proxies, over loopback."""

import asyncio
from pathlib import Path

import pytest

from prepserver.errors import ModelError
from prepserver.models.pull import pull
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import code_of
from tests.server.models.test_hub import GOOD, HubServer, hub_server, store_of
from tests.support.fake_proxy import UNCLOSED_SOCKETS, FakeProxy, no_proxies

__all__ = ["hub_server", "no_proxies"]

pytestmark = UNCLOSED_SOCKETS

HUB = "hub.invalid"


@pytest.fixture(autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the address of the hub, which only a proxy can reach."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://{HUB}")


@pytest.mark.parametrize(
    ("variable", "scheme"),
    [
        ("ALL_PROXY", "socks"),
        ("all_proxy", "socks"),
        ("HTTP_PROXY", "socks5"),
        ("http_proxy", "socks5h"),
        ("ALL_PROXY", "http"),
    ],
)
def test_hash_and_file_are_requested_through_the_proxy(
    hub_server: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    scheme: str,
) -> None:
    """A model is downloaded through an HTTP or a SOCKS 5 proxy, which looks up the hub's name."""

    async def test() -> set[str]:
        async with FakeProxy(hub_server.server_port) as proxy:
            monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:{proxy.port}")
            await asyncio.to_thread(pull, store_of(tmp_path), "tiny")
            return {host.removesuffix(":80") for host in proxy.hosts}

    assert asyncio.run(test()) == {HUB}
    assert store_of(tmp_path).installed_path("tiny").read_bytes() == GOOD


@pytest.mark.parametrize("endpoint", ["http", "https"])
@pytest.mark.parametrize(
    ("scheme", "reply"),
    [
        ("http", b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
        ("http", b"SSH-2.0-OpenSSH\r\n"),
        ("socks", b""),
        ("socks", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("socks5", b"\x05\xff"),
        ("socks5h", b"\x05"),
    ],
)
def test_failing_proxy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, scheme: str, reply: bytes
) -> None:
    """If a proxy refuses, closes the connection or is something else, ModelError names it and its
    variable but not its password."""
    monkeypatch.setenv("HF_ENDPOINT", f"{endpoint}://{HUB}")

    async def test() -> None:
        async with FakeProxy(0, reply=reply) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://ada:secret@127.0.0.1:{proxy.port}")
            with pytest.raises(ModelError, match=f"{proxy.port} of ALL_PROXY") as caught:
                await asyncio.to_thread(pull, store_of(tmp_path), "tiny")
        assert code_of(caught) == ErrorCode.NETWORK
        assert caught.value.retryable
        assert "secret" not in str(caught.value)

    asyncio.run(test())
