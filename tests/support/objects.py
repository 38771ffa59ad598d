"""A registry of the small objects that a test defines, and helpers to wait for them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest

from prepserver.objects.connection import Connection
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.objects.storage import Storage
from prepserver.objects.stubs import ObjectCall
from tests.support.clock import ManualClock
from tests.support.rooms import Client

__all__ = ["Gate", "alive", "call_to", "eventually", "in_time", "join"]

P = ParamSpec("P")
T = TypeVar("T")


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
    registry = Registry(root, kinds, clock, vfs=vfs, executor=clock.create_executor())
    await registry.start()
    try:
        yield registry
    finally:
        if not registry.closing:
            await registry.close()


def call_to(
    kind: type[DurableObject],
    name: str,
    method: Callable[Concatenate[Any, P], T],
    *arguments: P.args,
    **keywords: P.kwargs,
) -> ObjectCall[T]:
    """Return a call of a method of the object `name`, checked against the method's signature."""
    assert not keywords, "calls have positional arguments only"
    return ObjectCall(kind.__name__, name, method.__name__, arguments)


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
