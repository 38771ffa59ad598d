"""Requests that no client library would send, written to the server's socket as bytes."""

import json
import re
import socket
from contextlib import closing

import pytest

from prepserver.wire.error_codes import ErrorCode
from tests.support.server import Server

pytestmark = pytest.mark.e2e

LIST = b"GET /api/interviews HTTP/1.1"
CREATE = b"POST /api/interviews HTTP/1.1"
HOST = b"Host: x"
CHUNKED = b"Transfer-Encoding: chunked"

REQUESTS: dict[str, tuple[bytes, ...]] = {
    "NUL in the path": (b"GET /api/interviews/%00 HTTP/1.1", HOST),
    "path not UTF-8": (b"GET /api/interviews/%ff HTTP/1.1", HOST),
    "surrogate in the path": (b"DELETE /api/interviews/%ed%a0%80 HTTP/1.1", HOST),
    "bytes in the path": (b"GET /api/interviews/\xff HTTP/1.1", HOST),
    "half an escape": (b"GET /api/interviews/%zz HTTP/1.1", HOST),
    "slash in an id": (b"GET /api/interviews/a%2fb HTTP/1.1", HOST),
    "parent folders": (b"GET /api/interviews/../../etc/passwd HTTP/1.1", HOST),
    "id of 10,000 characters": (b"GET /api/interviews/" + b"x" * 10_000 + b" HTTP/1.1", HOST),
    "query not UTF-8": (b"GET /api/interviews?%ff=%ff&&=&%00 HTTP/1.1", HOST),
    "bytes in the query": (b"GET /api/interviews?\xff=1 HTTP/1.1", HOST),
    "HEAD": (b"HEAD /api/interviews HTTP/1.1", HOST),
    "OPTIONS": (b"OPTIONS * HTTP/1.1", HOST),
    "TRACE": (b"TRACE /api/interviews HTTP/1.1", HOST),
    "CONNECT": (b"CONNECT example.test:443 HTTP/1.1", HOST),
    "unknown method": (b"BREW /api/interviews HTTP/1.1", HOST),
    "lower case": (b"get /api/interviews HTTP/1.1", HOST),
    "absolute address": (b"GET http://x/api/interviews HTTP/1.1", HOST),
    "HTTP/1.0": (b"GET /api/interviews HTTP/1.0",),
    "HTTP/2": (b"PRI * HTTP/2.0",),
    "no host": (LIST,),
    "host that is none": (LIST, b"Host: [\xff:::"),
    "long header": (LIST, HOST, b"X: " + b"a" * 50_000),
    "2,000 headers": (LIST, HOST, *(b"X%d: y" % number for number in range(2_000))),
    "folded header": (LIST, HOST, b"X: a\r\n b"),
    "conditions": (LIST, HOST, b"Range: bytes=0-\xff", b"If-Match: \xff", b"If-Range: x"),
    "dates": (LIST, HOST, b"If-Modified-Since: never", b"If-Unmodified-Since: \xff"),
    "cookies": (LIST, HOST, b"Cookie: =;;\xff=\xff; a\x01=b"),
    "media types": (LIST, HOST, b"Accept: \xff/;q=x,;;,*/*;q=nan"),
    "error as XML": (b"GET /api/nothing HTTP/1.1", HOST, b"Accept: text/xml"),
    "upgrade to HTTP/2": (LIST, HOST, b"Connection: Upgrade", b"Upgrade: h2c"),
    "negative length": (CREATE, HOST, b"Content-Length: -5"),
    "impossible length": (CREATE, HOST, b"Content-Length: " + b"9" * 20),
    "two lengths": (CREATE, HOST, b"Content-Length: 0", b"Content-Length: 1"),
    "length and chunks": (CREATE, HOST, b"Content-Length: 2", CHUNKED, b"\r\n2\r\n{}\r\n0\r\n"),
    "chunks": (CREATE, HOST, CHUNKED, b"\r\n1;x=\xff\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n"),
    "chunk without a size": (CREATE, HOST, CHUNKED, b"\r\nzz\r\n{}"),
    "unknown coding": (CREATE, HOST, b"Transfer-Encoding: gzip, chunked", b"\r\n0\r\n"),
    "no type": (CREATE, HOST, b"Content-Length: 2", b"\r\n{}"),
    "type of bytes": (CREATE, HOST, b"Content-Type: \xff;;=;", b"Content-Length: 2", b"\r\n{}"),
    "a form": (CREATE, HOST, b"Content-Type: multipart/form-data", b"Content-Length: 2", b"\r\n--"),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),),
    "WebSocket with a body": (
        *(CREATE, HOST, b"Connection: Upgrade", b"Upgrade: websocket"),
        *(b"Content-Length: 2", b"\r\n{}"),
    ),
    "WebSocket at another path": (LIST, HOST, b"Connection: Upgrade", b"Upgrade: websocket"),
}

CREDENTIALS = (
    b"Bearer \xff\xfe\x80",
    "Bearer prep_é_ü".encode(),
    b"Bearer prep_" + b"0" * 20_000,
    b"Bearer prep_%00_x",
    b"Bearer eyJhbGciOiJub25lIn0.e30.",
    b"Bearer eyJhbGciOiJIUzI1NiJ9.W10.AAAA",
    b"Bearer " + b"a.b.c" * 4_000,
    b"Bearer \x01",
    b"Basic \xff",
    b"Bearer",
)


def send(server: Server, *lines: bytes) -> tuple[int, bytes]:
    """Send a request and return the status and the body of the response."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        response = b""
        while not is_complete(response, lines[0][:4] == b"HEAD") and (
            received := connection.recv(65_536)
        ):
            response += received
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", response)
    assert status is not None, response
    return int(status[1]), response.partition(b"\r\n\r\n")[2]


def is_complete(response: bytes, without_body: bool) -> bool:
    """Return True if the response is complete; a response to HEAD has no body."""
    head, end, body = response.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and (without_body or length is None or len(body) >= int(length[1]))


@pytest.mark.parametrize("name", REQUESTS)
def test_an_odd_request_does_not_fail(server: Server, ada: str, name: str) -> None:
    """A request that is hardly HTTP is answered with a status below 500, and the log reports no
    failure."""
    before = len(server.log)
    first, *rest = REQUESTS[name]
    status, _ = send(server, first, b"Authorization: Bearer " + ada.encode(), *rest)
    assert 100 <= status < 500
    assert "Traceback" not in server.log[before:]
    assert "level=error" not in server.log[before:]


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("path", [b"/auth/token", b"/api/interviews", b"/metrics"])
def test_an_odd_credential_is_rejected(server: Server, path: bytes, credential: bytes) -> None:
    """A credential of odd bytes is answered with 401, or with 400 if no header may contain it."""
    before = len(server.log)
    status, body = send(
        server,
        b"GET " + path + b" HTTP/1.1",
        HOST,
        b"Authorization: " + credential,
    )
    assert status in (400, 401)
    if status == 401:
        assert json.loads(body)["error"]["code"] in (
            *(ErrorCode.NO_CREDENTIAL, ErrorCode.BAD_ACCESS_KEY, ErrorCode.BAD_TOKEN),
        )
    assert "Traceback" not in server.log[before:]
