"""Certificates of servers, over loopback."""

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve

from prepcli.client.handshake import open_connection
from prepcli.client.rest import RestClient
from prepcli.errors import ServerUnreachable

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority."""
    return trustme.CA()


@pytest.fixture
def _trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SSL_CERT_FILE name the authority."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


async def _get_token(port: int, host: str = "localhost") -> str:
    async with RestClient(f"https://{host}:{port}", "the-key") as client:
        return await client.get_room_token()


def _run_with_server(context: ssl.SSLContext | None, work: Callable[[int], Awaitable[None]]) -> int:
    """Run `work` with the port of a server that returns a token. Return the number of connections
    that clients attempted."""
    attempts = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"token":"t","expires_at":9999999999.0}'
        try:
            if (await reader.readline()).startswith(b"GET "):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        finally:
            writer.close()

    def count(socket: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        nonlocal attempts
        attempts += 1

    async def run() -> None:
        if context is not None:
            context.sni_callback = count
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            await work(server.sockets[0].getsockname()[1])

    asyncio.run(run())
    return attempts


def _tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.usefixtures("_trusted")
def test_certificate_file_counts_for_requests_and_rooms(authority: trustme.CA) -> None:
    """Requests and rooms trust the authorities in SSL_CERT_FILE, also for a server on this
    machine such as the end of a tunnel."""

    async def request(port: int) -> None:
        assert await _get_token(port) == "t"

    async def enter() -> None:
        async def room(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with serve(room, "127.0.0.1", 0, ssl=context) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            connection = await open_connection(f"wss://localhost:{port}/room", 10.0)
            await connection.close()

    context = _tls(authority.issue_cert("localhost"))
    _run_with_server(context, request)
    asyncio.run(enter())


def test_certificate_folder_counts(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authorities in SSL_CERT_FILE are trusted beside a folder in SSL_CERT_DIR."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    async def work(port: int) -> None:
        assert await _get_token(port) == "t"

    _run_with_server(_tls(authority.issue_cert("localhost")), work)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("other authority", r"is signed by an authority .* not trust.*SSL_CERT_FILE"),
        ("self-signed", r"is signed by an authority .* not trust.*SSL_CERT_FILE"),
        ("expired", "has expired"),
        ("other host", "is for another host"),
        ("other address", "is for another address"),
    ],
)
@pytest.mark.usefixtures("_trusted")
def test_refused_certificate_is_explained(authority: trustme.CA, kind: str, problem: str) -> None:
    """ServerUnreachable says what is wrong with the certificate and what to do, after one
    attempt."""
    host = "127.0.0.1" if kind == "other address" else "localhost"
    names = "prep.example" if kind.startswith("other host") else "localhost"
    issuer = authority
    if kind in ("other authority", "self-signed"):
        issuer = trustme.CA()
    not_after = PAST if kind == "expired" else None
    context = _tls(issuer.issue_cert(names, not_after=not_after))
    if kind == "self-signed":
        with issuer.cert_pem.tempfile() as chain, issuer.private_key_pem.tempfile() as key:
            context.load_cert_chain(chain, key)

    async def work(port: int) -> None:
        with pytest.raises(ServerUnreachable, match=f"certificate of .*{host}:{port} {problem}"):
            await _get_token(port, host)

    assert _run_with_server(context, work) == 1


def test_server_without_tls_is_named() -> None:
    """An https:// address of a server without TLS raises ServerUnreachable that says so."""

    async def work(port: int) -> None:
        with pytest.raises(ServerUnreachable, match=r"without TLS.*http://"):
            await _get_token(port)

    _run_with_server(None, work)
