"""HTTP and SOCKS 5 proxy on loopback that connects every host to one port."""

import asyncio
import contextlib
import gc
import os
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest

__all__ = ["UNCLOSED_SOCKETS", "FakeProxy", "no_proxies"]

UNCLOSED_SOCKETS = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""Mark for tests of failing proxies: httpx leaves sockets to the garbage collector if the handshake
with a SOCKS proxy fails."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the proxies of the machine that runs the tests, and afterwards the open sockets. The
    fixture applies to each module that imports it."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    yield
    gc.collect()


class FakeProxy:
    """Proxy server. `reply` replaces its first response: bytes, after which it closes the
    connection, or None to stay silent; by default it forwards."""

    def __init__(self, target: int, *, reply: bytes | None = b"forward") -> None:
        self._target = target
        self._reply = reply
        self._tasks: set[asyncio.Task[None]] = set()
        self.hosts: list[str] = []
        """Hosts and ports that clients asked for."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            first = await reader.read(1)
            if self._reply is None:
                await asyncio.Event().wait()
            elif self._reply != b"forward":
                if first != b"\x05":
                    await reader.readuntil(b"\r\n\r\n")
                writer.write(self._reply)
                await writer.drain()
            elif first == b"\x05":
                await self._serve_socks(reader, writer)
            elif first:
                await self._serve_http(first + await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve_socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        assert kind == 3, "the client looked up the name itself"
        host = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2))
        self.hosts.append(f"{host.decode()}:{port}")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        await self._connect(b"", reader, writer)

    async def _serve_http(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match = re.match(rb"(?:CONNECT |\w+ http://)([\w.:-]+)", head)
        assert match is not None
        self.hosts.append(match[1].decode())
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            head = b""
        await self._connect(head, reader, writer)

    async def _connect(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        far_writer.write(head)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
