"""The runtime of objects with a test's own small objects in it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from prepserver.objects.connection import Connection
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.objects.storage import Storage
from tests.support.clock import ManualClock
from tests.support.rooms import Client

__all__ = ["Gate", "alive", "eventually", "in_time", "join"]


@asynccontextmanager
async def alive(
    root: Path,
    *classes: type[DurableObject],
    clock: ManualClock | None = None,
    vfs: str | None = None,
) -> AsyncIterator[Registry]:
    """A registry of these classes, each a kind by its own name."""
    kinds = [Kind(one.__name__, one, one.migrations) for one in classes]
    clock = clock or ManualClock()
    registry = Registry(root, kinds, clock, vfs=vfs, executor=clock.threads())
    await registry.start()
    try:
        yield registry
    finally:
        if not registry.closing:
            await registry.close()


def join(
    registry: Registry, kind: type[DurableObject], name: str, connection: Connection
) -> Client:
    """A client in an object's room."""
    return Client(connection, registry.connect(kind.__name__, name, connection))


async def eventually(condition: Callable[[], bool], *, limit: float = 10.0) -> None:
    """Wait for what work in threads leads to; at most `limit` real seconds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - what it waits for says nothing when it is done
            await asyncio.sleep(0.001)


async def in_time(clock: ManualClock, condition: Callable[[], bool], *, seconds: int = 60) -> None:
    """Let at most so many virtual seconds pass, one by one, until the condition holds."""
    for _ in range(seconds):
        if condition():
            return
        await clock.advance(1)
    assert condition(), f"it did not come about in {seconds} s"


class Gate:
    """Commits of one object wait here, as for a slow disk, until `open`."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        commit = Storage.commit

        def slow(storage: Storage) -> None:
            if storage.row("SELECT name FROM _object") == (name,):
                self.reached.set()
                assert self._open.wait(60)
            commit(storage)

        patch.setattr(Storage, "commit", slow)

    def open(self) -> None:
        self._open.set()
