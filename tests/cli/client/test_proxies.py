"""Requests and rooms behind proxies, over loopback."""

import asyncio

import pytest

from prepcli.client import rest
from prepcli.client.handshake import open_connection
from prepcli.client.rest import RestClient
from prepcli.client.state import ConnectionStatus
from prepcli.errors import ProxyRefused, ServerUnreachable
from tests.cli.client.event_reader import enter_room, run_with_room
from tests.support.fake_proxy import UNCLOSED_SOCKETS, FakeProxy, no_proxies
from tests.support.fake_room import FakeRoom

__all__ = ["no_proxies"]

pytestmark = UNCLOSED_SOCKETS

HOST = "prep.invalid:8400"


async def _get_token(url: str = f"http://{HOST}") -> str:
    async with RestClient(url, "the-key") as client:
        return await client.get_room_token(attempts=1)


async def _serve_token(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = b'{"token":"t","expires_at":9999999999.0}'
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("scheme", ["http", "socks", "socks5", "socks5h"])
def test_requests_and_rooms_go_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """The proxy looks up the server's name and forwards requests and rooms alike."""

    async def request() -> list[str]:
        server = await asyncio.start_server(_serve_token, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, FakeProxy(port) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
            assert await _get_token() == "t"
            return proxy.hosts

    async def enter(room: FakeRoom) -> None:
        port = int((await room.address(False)).split(":")[2].split("/")[0])
        async with FakeProxy(port) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
            connection = await open_connection(f"ws://{HOST}/room", 10.0)
            await connection.close()
            assert proxy.hosts == [HOST]

    assert asyncio.run(request()) == [HOST]
    run_with_room(enter)


@pytest.mark.parametrize(
    ("scheme", "reply", "reason"),
    [
        ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "user name"),
        ("http", b"SSH-2.0-OpenSSH\r\n", ""),
        ("http", b"", ""),
        ("socks5", b"", ""),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "SOCKS"),
        ("socks5", b"\x05\xff", ""),
        ("socks5", b"\x05\x02", ""),
        ("socks5", b"\x05", ""),
        ("socks5", b"\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", ""),
    ],
)
def test_failing_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch, scheme: str, reply: bytes, reason: str
) -> None:
    """If a proxy refuses, closes the connection or is something else, ServerUnreachable names it
    and its variable but not its password."""

    async def test() -> None:
        async with FakeProxy(0, reply=reply) as proxy:
            address = f"127.0.0.1:{proxy.port}"
            monkeypatch.setenv("HTTP_PROXY", f"{scheme}://ada:secret@{address}")
            with pytest.raises(ServerUnreachable, match=f"{address} of HTTP_PROXY.*{reason}") as e:
                await _get_token()
            assert "secret" not in str(e.value)

    asyncio.run(test())


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_silent_proxy_has_a_limit(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A proxy that accepts connections and says nothing ends in ServerUnreachable."""
    monkeypatch.setattr(rest, "REQUEST_LIMIT", 0.05)

    async def test() -> None:
        async with FakeProxy(0, reply=None) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
            with pytest.raises(ServerUnreachable, match=r"proxy.*no response in time"):
                await _get_token()
            with pytest.raises(TimeoutError):
                await open_connection(f"ws://{HOST}/room", 0.05)

    asyncio.run(test())


def test_closed_proxy_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing listens at the proxy's address, ServerUnreachable names the variable; an excluded
    host is not reached through it."""

    async def test() -> None:
        async with FakeProxy(0) as proxy:
            port = proxy.port
        for variable in ("ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(variable, f"socks://127.0.0.1:{port}")
            with pytest.raises(ServerUnreachable, match=f"{port} of {variable}"):
                await _get_token()
        monkeypatch.setenv("NO_PROXY", "::1/128, 192.0.2.0/24, .invalid")
        with pytest.raises(ServerUnreachable) as raised:
            await _get_token()
        assert "proxy" not in str(raised.value)

    asyncio.run(test())


def test_unusable_variable_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable variable raises ServerUnreachable for requests and for rooms."""
    monkeypatch.setenv("ALL_PROXY", "socks4://127.0.0.1:1080")
    with pytest.raises(ServerUnreachable, match=r"ALL_PROXY.*socks4"):
        RestClient(f"http://{HOST}", "the-key")
    with pytest.raises(ServerUnreachable, match=r"ALL_PROXY.*socks4"):
        asyncio.run(open_connection(f"ws://{HOST}/room", 1.0))


@pytest.mark.parametrize("status", [403, 405, 407])
def test_proxy_that_refuses_rooms_is_named(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A proxy that permits no CONNECT to the server's port ends the room with ProxyRefused."""

    async def test(fake: FakeRoom) -> None:
        async with FakeProxy(0, reply=b"HTTP/1.1 %d No\r\n\r\n" % status) as proxy:
            monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")

            async def address(renew: bool) -> str:
                return f"ws://{HOST}/room"

            monkeypatch.setattr(fake, "address", address)
            async with enter_room(fake) as (room, reader):
                await reader.read_status(ConnectionStatus.CLOSED)
                with pytest.raises(ProxyRefused, match=rf"ALL_PROXY.*{status}"):
                    await anext(room)

    run_with_room(test)
