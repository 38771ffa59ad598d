"""One life of the server's process, from a start on a folder to a stop or a crash."""

import asyncio
import contextlib
import contextvars
import os
import random
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from uvicorn.server import ServerState

from prepserver.accounts.authentication import Authenticator
from prepserver.errors import Unauthorized
from prepserver.http.rooms import Rooms as Lobby
from prepserver.http.services import Services
from prepserver.http.sockets import Sockets
from prepserver.objects.object import DurableObject
from prepserver.serve import DRAIN_SECONDS
from prepserver.wire.error_codes import ErrorCode
from tests.simulation.loop import TASKS, Disk, VirtualLoop
from tests.simulation.models import Director, Language, SpeechWriter
from tests.simulation.steps import Setup
from tests.support.clock import ManualClock
from tests.support.rooms import Rooms

__all__ = ["HINT_AFTER", "LIFE", "USER", "Life", "Tokens", "survivors"]

USER = "user-1"

HINT_AFTER = 20.0
"""Seconds."""

LIFE: contextvars.ContextVar["Life | None"] = contextvars.ContextVar("life", default=None)
"""The life that the running code belongs to; none for clients."""


class Tokens:
    """Tokens of one user, all of which can be made to expire at once."""

    def __init__(self) -> None:
        self._generation = 0

    def fresh(self) -> str:
        return f"{USER}.{self._generation}"

    def expire(self) -> None:
        self._generation += 1

    def verify(self, token: str) -> str:
        if token != self.fresh():
            raise Unauthorized("The token has expired.", code=ErrorCode.TOKEN_EXPIRED)
        return USER

    def exists(self, user: str) -> bool:
        return user == USER


class Life:
    """A server on a folder. Its tasks, its disk and its objects are its own and die with it."""

    def __init__(
        self,
        root: Path,
        clock: ManualClock,
        director: Director,
        tokens: Tokens,
        rng: random.Random,
        setup: Setup,
    ) -> None:
        self.root = root
        self.director = director
        self.over = False
        self._clock = clock
        self.disk = Disk(rng)
        self.complaints: list[str] = []
        """What must never be logged, and was."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._context = contextvars.copy_context()
        self._context.run(TASKS.set, self._tasks)
        self._context.run(LIFE.set, self)
        self._latest: dict[tuple[type[DurableObject], str], DurableObject] = {}
        self._loop().disk = self.disk
        self.rooms = Rooms(
            root,
            clock=clock,
            language=Language(clock, director, compact=setup.compact, context=setup.context),
            speech=SpeechWriter(clock, director),
            hint_after=HINT_AFTER,
            max_recording=20.0,
            rate_limit=setup.rate_limit,
            executor=self.disk,
        )
        standing: Any = tokens
        services = Services(
            clock=clock,
            registry=self.rooms.registry,
            gateway=self.rooms.gateway,
            authenticator=Authenticator(standing, standing),
            rate_limiter=self.rooms.limiter,
            budgets=standing,
            call_log=standing,
            metrics=standing,
            metrics_access="off",
            version="simulated",
        )
        self.sockets = Sockets(Lobby(services).open_connection, clock)
        self.state = ServerState()

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something as a part of the server."""
        return asyncio.get_running_loop().create_task(coro, context=self._context.copy())

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """The same for a callback; a process that is gone calls nothing."""
        if not self.over:
            self._loop().call_soon(callback, *arguments, context=self._context.copy())

    def _loop(self) -> VirtualLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    async def settle(self) -> None:
        await self.disk.settle(self._loop())

    async def start(self) -> None:
        started = self.spawn(self.rooms.__aenter__())
        await self.settle()
        started.result()
        self.spawn(self.sockets.run_keepalive())

    async def stop(self) -> None:
        """A clean end, as after SIGTERM: what uvicorn does, then what `serve` does."""
        self.disk.held = False
        for connection in list(self.state.connections):
            self.call_soon(connection.shutdown)
        await self.settle()
        if self.state.connections or self.state.tasks:
            await self._clock.advance(DRAIN_SECONDS)
        stopped = self.spawn(self.rooms.__aexit__(None, None, None))
        await self.settle()
        stopped.result()
        self.over = True
        await self._end_tasks()

    async def crash(self, done: int, copy: Path) -> None:
        """End without a word; `copy` gets what the disk held at that moment.

        `done` pieces of the disk work that waited still happened, unknown to who waited for them.
        """
        for _ in range(done):
            self.disk.work()
        survivors(self.root, copy)
        self.over = True
        self._loop().disk = self.disk = Disk(random.Random(0))
        await self._end_tasks()
        _close_locks(self.root)
        self.rooms.limiter.close()

    async def _end_tasks(self) -> None:
        """Take the memory away. What the tasks do on their way out happens to a dead folder."""
        self.disk.held = True
        while alive := [task for task in self._tasks if not task.done()]:
            self._tasks.clear()
            for task in alive:
                task.cancel()
            await self._loop().rest()
            self._tasks.extend(alive)

    # --- Watching it --------------------------------------------------------------------------

    def born(self, instance: DurableObject) -> None:
        """A factory has made an object: from now on it is the only one of its name."""
        self._latest[type(instance), instance.context.name] = instance

    def served_by(self, instance: DurableObject) -> None:
        """An event was given to an object."""
        if self._latest.get((type(instance), instance.context.name)) is not instance:
            self.complaints.append("an event was given to an object that has a successor")


def survivors(root: Path, copy: Path) -> None:
    """What is left of a folder when the process is gone: SQLite's shared memory is not."""
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("*-shm", "server.lock"))


def _close_locks(root: Path) -> None:
    """The kernel closes what the process had open, and with it the lock on the folder."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own descriptor is gone by now
            if descriptor.readlink() == root / "server.lock":
                os.close(int(descriptor.name))
