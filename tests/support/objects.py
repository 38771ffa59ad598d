"""Registry of the small objects that a test defines, and helpers that wait for conditions."""

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

__all__ = ["CommitGate", "advance_until", "call_to", "eventually", "join", "start_registry"]

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def start_registry(
    root: Path,
    *classes: type[DurableObject],
    clock: ManualClock | None = None,
    vfs: str | None = None,
) -> AsyncIterator[Registry]:
    """Run a registry with one kind for each class, named after the class."""
    kinds = [Kind(kind.__name__, kind, kind.migrations) for kind in classes]
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
    """Return a call to a method of the object `name`. A type checker can check the arguments
    against the method's signature."""
    assert not keywords, "calls have positional arguments only"
    return ObjectCall(kind.__name__, name, method.__name__, arguments)


def join(
    registry: Registry, kind: type[DurableObject], name: str, connection: Connection
) -> Client:
    """Connect a client to an object's room and return the client."""
    return Client(connection, registry.connect(kind.__name__, name, connection))


async def eventually(condition: Callable[[], bool], *, limit: float = 10.0) -> None:
    """Wait until threads make `condition` true; raise TimeoutError after `limit` real seconds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - threads signal nothing
            await asyncio.sleep(0.001)


async def advance_until(
    clock: ManualClock, condition: Callable[[], bool], *, seconds: int = 60
) -> None:
    """Advance the clock second by second until `condition` holds; raise AssertionError after
    `seconds` virtual seconds."""
    for _ in range(seconds):
        if condition():
            return
        await clock.advance(1)
    assert condition(), f"the condition did not hold within {seconds} s"


class CommitGate:
    """Gate that holds the commits of one object, as a slow disk would, until `open` is called."""

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
