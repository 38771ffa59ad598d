"""Clients for benchmarks, with so little overhead that one core can drive many clients."""

import asyncio
import base64
import json
import os
import struct
import time
from collections import deque
from typing import Any

__all__ = ["CountingClient", "RestClient", "connect"]


class CountingClient(asyncio.Protocol):
    """WebSocket client that counts the text messages that it receives.

    Until `only_count` is called, the messages are also kept for `next`.
    """

    def __init__(self, target: str, host: str) -> None:
        self.messages = 0
        self.bytes = 0
        """Total size in bytes of the received text messages, including their frame headers."""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._target = target
        self._host = host
        self._data = b""
        self._received: deque[tuple[float, bytes]] | None = deque()
        self._arrived = asyncio.Event()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {self._target} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        data = self._data + data
        position = 0
        if not self.open.done():
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self._data = data
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.open.set_exception(ConnectionError(head.decode()))
                return
            self.open.set_result(None)
            data = rest
        end = len(data)
        while end - position >= 2:
            size, start = data[position + 1], position + 2
            if size == 126 and end - start >= 2:
                (size,) = struct.unpack_from(">H", data, start)
                start += 2
            elif size == 127 and end - start >= 8:
                (size,) = struct.unpack_from(">Q", data, start)
                start += 8
            elif size > 125:
                break
            if end - start < size:
                break
            opcode = data[position] & 0x0F
            if opcode == 1:
                self.messages += 1
                self.bytes += start + size - position
                if self._received is not None:
                    self._received.append((time.perf_counter(), data[start : start + size]))
                    self._arrived.set()
            elif opcode == 9:
                self._send(0x8A, data[start : start + size])
            position = start + size
        self._data = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(ConnectionError("connection closed in the handshake"))
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, text: bytes) -> None:
        self._send(0x81, text)

    async def close(self) -> None:
        """Send a close frame and wait until the server has closed the connection."""
        self._send(0x88, struct.pack(">H", 1000))
        await self.closed

    async def next(self, *tags: str) -> tuple[float, bytes]:
        """Return the arrival time and the text of the next message whose type is one of `tags`.

        Messages of other types are discarded. The time is in seconds on the clock of
        `time.perf_counter`.
        """
        prefixes = tuple(f'{{"type":"{tag}"'.encode() for tag in tags)
        assert self._received is not None, "this client only counts messages"
        while True:
            while self._received:
                when, message = self._received.popleft()
                if message.startswith(prefixes):
                    return when, message
            self._arrived.clear()
            await self._arrived.wait()

    def only_count(self) -> None:
        """Discard the kept messages, and count later messages without keeping them."""
        self._received = None

    def _send(self, head: int, data: bytes) -> None:
        # A masking key of zeros leaves the data unchanged.
        if len(data) < 126:
            header = bytes((head, 0x80 | len(data)))
        else:
            header = struct.pack(">BBH", head, 0xFE, len(data))
        self._transport.write(header + bytes(4) + data)


async def connect(port: int, target: str) -> CountingClient:
    """Return a connected client. Raises ConnectionError if the handshake fails."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: CountingClient(target, f"127.0.0.1:{port}"), "127.0.0.1", port
    )
    await client.open
    return client


class RestClient:
    """HTTP client that sends one user's requests in turn over a persistent connection."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a POST request, check that the status is 2xx, and return the decoded response."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()  # the server closes a connection after five idle seconds
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = json.dumps(body).encode()
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        response = json.loads(await reader.readexactly(length))
        assert head.startswith("http/1.1 2"), f"{head}{response}"
        return response

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
